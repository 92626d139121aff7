"""A workload in a line: ``chat:requests=500,rate=2,seed=1``."""

from dataclasses import fields

from infergc.sim.requests import TraceRequest
from infergc.sim.workloads.agents import Agents
from infergc.sim.workloads.beams import Beams
from infergc.sim.workloads.chat import Chat
from infergc.sim.workloads.knobs import Workload, WorkloadError
from infergc.sim.workloads.rag import Rag
from infergc.sim.workloads.system_prompts import SystemPrompts
from infergc.wording import shown

KINDS: dict[str, type[Workload]] = {
    "agents": Agents,
    "beams": Beams,
    "chat": Chat,
    "rag": Rag,
    "system-prompts": SystemPrompts,
}


def workload(spec: str) -> list[TraceRequest]:
    """Requests of the workload that a line describes: its kind, and after a colon knobs that are not as usual.

    Raises:
        WorkloadError: there is no such kind or no such knob, or a knob is out of bounds.
    """
    return parse_workload(spec).generate()


def parse_workload(spec: str) -> Workload:
    """The workload that a line describes.

    Raises:
        WorkloadError: as ``workload``.
    """
    kind, _, rest = spec.partition(":")
    if kind not in KINDS:
        raise WorkloadError(f"{shown(kind)} is no workload; there are {', '.join(KINDS)}")
    settings: dict[str, float] = {}
    for part in filter(None, rest.split(",")):
        name, value = _setting(KINDS[kind], kind, part)
        if name in settings:
            raise WorkloadError(f"{name}: it is given twice")
        settings[name] = value
    return KINDS[kind](**settings)  # type: ignore[arg-type]


def _setting(made: type[Workload], kind: str, part: str) -> tuple[str, float]:
    name, _, text = part.partition("=")
    knobs = [one.name for one in fields(made)]
    if name not in knobs:
        raise WorkloadError(f"{shown(name)} is no knob of {kind}; there are {', '.join(knobs)}")
    for kind_of in (int, float):
        try:
            return name, kind_of(text)
        except ValueError:
            continue
    raise WorkloadError(f"{name}: {shown(text)} is not allowed; write a number, such as {name}=1")
