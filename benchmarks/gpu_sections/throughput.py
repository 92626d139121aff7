"""The engine beside transformers at the geometry of 1B and 8B models: the same random weights, prompts and device."""

from collections.abc import Iterator, Sequence
from typing import Any

from gpu_sections.contest import Contest
from gpu_sections.engines import Ours
from gpu_sections.models import NoRoomError, model_directory
from infergc.bench.gpu.child import absence
from infergc.bench.gpu.figure import Figure, left_out
from infergc.bench.gpu.section import Setting
from infergc.bench.workload import Load

SEATS, INPUT, OUTPUT = 256, 256, 128
BATCHES = (64, 256, 1, 8)  # in order of value
ROUNDS = 3
_COMPILING = 60.0  # seconds: transformers compiles its steps with a static cache, for each batch anew
_QUICK = (Load(3, 20, 6), Load(1, 20, 6))


def measure_1b(setting: Setting) -> Iterator[Figure]:
    """At the geometry of Llama-3.2-1B."""
    yield from measure(setting, "1b")


def measure_8b(setting: Setting) -> Iterator[Figure]:
    """At the geometry of Llama-3.1-8B."""
    yield from measure(setting, "8b")


def measure(setting: Setting, name: str) -> Iterator[Figure]:
    """All loads against the quick starters, then those against what compiles first, while there is time."""
    loads = _QUICK if setting.quick else [Load(batch, INPUT, OUTPUT) for batch in BATCHES]
    try:
        directory = model_directory(name, setting)
    except NoRoomError as error:
        yield left_out("all", str(error))
        return
    most = max(load.requests for load in loads)
    longest = max(load.input_len + load.output_len for load in loads)
    ours = Ours(directory, setting, most, 2 * most * (longest + 16), longest)
    yield Figure("attention and type of ours", note=ours.words)
    peer: Any = None
    try:
        from gpu_sections import peers

        peer = peers.load(directory, setting.device)
    except ModuleNotFoundError as error:
        yield left_out("transformers", absence(error))
    quick_starters = [] if peer is None else [peers.Generate(peer, "dynamic"), peers.Continuous(peer)]
    yield from _contests(ours, quick_starters, loads, setting, least=1.0)
    if peer is not None:
        yield from _contests(ours, [peers.Generate(peer, "static")], loads, setting, least=_COMPILING)
    ours.close()


def _contests(ours: Ours, others: list[Any], loads: Sequence[Load], setting: Setting, least: float) -> Iterator[Figure]:
    """Each load, if so many seconds are left; of a quick run they are not asked."""
    names, vocab = ", ".join(each.name for each in (ours, *others)), ours.engine.ready.vocab_size
    for load in loads:
        if setting.left < least and not setting.quick:
            yield left_out(f"{load}, {names}", "no time was left")
            continue
        began = setting.left
        yield from Contest(ours, others, load, vocab, setting).figures(1 if setting.quick else ROUNDS)
        least = max(least, (began - setting.left) / 2)  # one to warm up and one round are half of it
