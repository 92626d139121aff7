"""The engine beside transformers at the geometry of 1B and 8B models: the same random weights, prompts and device."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from gpu_sections.contest import Contest
from gpu_sections.engines import Ours
from gpu_sections.models import NoRoomError, model_directory
from infergc.bench.gpu.figure import NO_TIME, Figure, left_out, not_run
from infergc.bench.gpu.section import Setting
from infergc.bench.workload import Load

LENGTHS = {"1b": (256, 128), "8b": (128, 64)}  # tokens of inputs and outputs
BATCHES = (256, 1, 64, 8)  # in order of value
ROUNDS = 3
_PAGE = 16  # tokens: the last one of each text may be begun only
_COMPILING = 60.0  # seconds: transformers compiles its steps with a static cache, for each batch anew
_QUICK = (Load(3, 20, 6), Load(1, 20, 6))


def measure_1b(setting: Setting) -> Iterator[Figure]:
    """At the geometry of Llama-3.2-1B."""
    yield from measure(setting, "1b")


def measure_8b(setting: Setting) -> Iterator[Figure]:
    """At the geometry of Llama-3.1-8B: shorter, for every step reads eight times as much."""
    yield from measure(setting, "8b")


def measure(setting: Setting, name: str) -> Iterator[Figure]:
    """All loads against the quick starters, then those against what compiles first, while there is time."""
    loads = _QUICK if setting.quick else [Load(batch, *LENGTHS[name]) for batch in BATCHES]
    try:
        directory = model_directory(name, setting)
    except NoRoomError as error:
        yield left_out("all", str(error))
        return
    ours = contestant(directory, setting, loads)
    yield Figure("attention and type of ours", note=ours.words)
    peer: Any = None
    try:
        from gpu_sections import peers

        peer = peers.load(directory, setting.device)
    except Exception as error:  # noqa: BLE001 - whatever it is, ours is measured all the same
        yield not_run("transformers", error)
    quick_starters = [] if peer is None else [peers.Generate(peer, "dynamic"), peers.Continuous(peer)]
    yield from _contests(ours, quick_starters, loads, setting, least=1.0)
    if peer is not None:
        yield from _contests(ours, [peers.Generate(peer, "static")], loads, setting, least=_COMPILING)
    ours.close()


def contestant(model: Path, setting: Setting, loads: Sequence[Load]) -> Ours:
    """Ours, with KV for the largest load and no more.

    Without the prefix cache: a load's prompts are those of another one in part, and peers compute them again.
    """
    most = max(load.requests for load in loads)
    longest = max(load.input_len + load.output_len for load in loads)
    return Ours(model, setting, most, most * (longest + _PAGE), longest, enable_prefix_caching=False)


def _contests(ours: Ours, others: list[Any], loads: Sequence[Load], setting: Setting, least: float) -> Iterator[Figure]:
    """Each load, if so many seconds are left; of a quick run they are not asked."""
    names, vocab = ", ".join(each.name for each in (ours, *others)), ours.engine.ready.vocab_size
    for load in loads:
        if setting.left < least and not setting.quick:
            yield left_out(f"{load}, {names}", NO_TIME)
            continue
        began = setting.left
        yield from Contest(ours, others, load, vocab, setting).figures(1 if setting.quick else ROUNDS)
        least = max(least, (began - setting.left) / 2)  # one to warm up and one round are half of it
