"""Every kernel beside the reference: attention of each backend, moves of pages, and the dense work between products.

What differs by more than its tests allow is said so, and makes the benchmark fail.

Shapes: L layers, N pages, G KV heads, P tokens in a page, D head dim, T tokens, H heads, E hidden, F intermediate,
R = D / 2.
"""

import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace
from functools import partial
from time import perf_counter

import torch

from cpu.kernel_cases import ROUNDED_WEIGHTS, in_chunks, make_case, run
from gpu_sections.backends import Candidate, candidate
from infergc.bench.gpu.figure import NO_TIME, Figure, left_out, not_run
from infergc.bench.gpu.section import Setting
from infergc.kernels.api import AttentionNeeds, Rotation
from infergc.kernels.reference import ReferenceAttention
from infergc.kernels.torch_ops import TorchOps

MIXED = [(0, 40), (700, 1), (1023, 1), (500, 17), (0, 1), (1020, 9), (63, 2), (15, 1), (16, 1)]  # start, count
BORDERS = [(length - 1, 1) for length in (1, 16, 17, 64, 65, 512, 513, 1024, 1025, 2049, 4096)]
SMALL = [(0, 20), (33, 1), (70, 3)]
CLOSE = {"rtol": 2**-6, "atol": 2**-5}  # of two bytes beside four: some roundings more or less are no difference
_LEAST = 3.0  # seconds; with less no further case is begun

Differs = Callable[[], str]  # what differs; "" if nothing does


def measure(setting: Setting) -> Iterator[Figure]:
    """Check what is ours."""
    triton = candidate("triton")
    yield begun("moves of pages", lambda: checked("moves of pages", moves(setting), setting), setting)
    yield begun("dense work", lambda: checked("dense work", dense(setting), setting), setting)
    if triton.absent:
        yield left_out("attention, triton", triton.absent)
        return
    yield begun("build, triton", partial(built, setting, triton), setting)
    yield begun("same bits in chunks, triton", partial(bits, setting, triton), setting)  # of what was just compiled
    yield begun("attention, triton", lambda: checked("attention, triton", attention(setting, triton), setting), setting)


def begun(what: str, work: Callable[[], Figure], setting: Setting) -> Figure:
    """The figure, if there is time to begin; what fails is told, and other kernels are still checked."""
    if setting.left < _LEAST:
        return left_out(what, NO_TIME)
    try:
        return work()
    except Exception as error:  # noqa: BLE001 - whatever it is
        traceback.print_exc()
        return not_run(what, error)


def checked(what: str, cases: Iterator[tuple[str, Differs]], setting: Setting) -> Figure:
    """Run cases while there is time: how many ran, the first that differs, and the first that did not run."""
    found, note, skipped = list[Figure](), "as the reference", "there is no case that it takes"
    for name, differs in cases:
        case = begun(name, lambda differs=differs: Figure("", wrong=differs()), setting)
        if case.skipped:
            note, skipped = f"as the reference; then {case.skipped}", case.skipped
            break
        found.append(replace(case, what=name))
    if not found:
        return left_out(what, skipped)
    failed = [f"{case.what}: {case.failed}" for case in found if case.failed]
    wrong = [f"{case.what}: {case.wrong}" for case in found if case.wrong]
    return Figure(
        what,
        len(found) - len(failed),
        "cases",
        note=note,
        wrong=f"{wrong[0]}; {len(wrong)} of {len(found)} cases differ" if wrong else "",
        failed=f"{failed[0]}; {len(failed)} of {len(found)} cases did not" if failed else "",
    )


def difference(actual: torch.Tensor, expected: torch.Tensor, tolerance: dict[str, float]) -> str:
    """Where two results differ by more than allowed; "" if nowhere."""
    try:
        torch.testing.assert_close(actual, expected, **tolerance)
    except AssertionError as error:
        return " ".join(str(error).split())[:200]
    return ""


def shapes(setting: Setting, dtype: torch.dtype) -> Iterator[tuple[AttentionNeeds, list[tuple[int, int]], int | None]]:
    """Needs, rows and window of each case of attention."""

    def needs(heads: int, kv_heads: int, head_dim: int, page: int = 16) -> AttentionNeeds:
        return AttentionNeeds(setting.device, dtype, heads, kv_heads, head_dim, page)

    if setting.quick:
        yield needs(4, 2, 32), SMALL, None
        yield needs(4, 1, 16), SMALL, 24
        return
    yield needs(32, 8, 128), MIXED, None
    yield needs(32, 8, 128), BORDERS, None
    yield needs(32, 8, 128), MIXED, 600
    yield needs(32, 8, 64), MIXED, None
    if dtype is not torch.bfloat16:  # each shape is compiled for itself, which takes most of the time
        return
    for window in (7, 90):
        yield needs(4, 2, 64, 8), MIXED, window
    for heads, kv_heads, head_dim, page in ((14, 2, 64, 32), (16, 16, 80, 16), (8, 2, 256, 64)):
        yield needs(heads, kv_heads, head_dim, page), MIXED, None


def attention(setting: Setting, candidate: Candidate) -> Iterator[tuple[str, Differs]]:
    """The cases that a backend takes."""
    for dtype in (torch.bfloat16, torch.float16, torch.float32):
        for needs, spans, window in shapes(setting, dtype):
            if candidate.refuses(needs):
                continue
            heads = f"{needs.num_heads}/{needs.num_kv_heads} heads of {needs.head_dim}"
            name = f"{_short(dtype)}, {heads}, pages of {needs.page_tokens}, window {window}"
            yield name, partial(beside, candidate, needs, spans, window)


def beside(candidate: Candidate, needs: AttentionNeeds, spans: list[tuple[int, int]], window: int | None) -> str:
    """How a backend differs from the reference."""
    case = replace(make_case(replace(needs, device="cpu"), spans, window), needs=needs)  # drawn alike anywhere
    expected = run(ReferenceAttention(needs), case)
    return difference(run(candidate.make(needs), case), expected, ROUNDED_WEIGHTS[needs.dtype])


def built(setting: Setting, candidate: Candidate) -> Figure:
    """How long the first launches take, which compile."""
    dtype = torch.float16 if setting.device == "cpu" else torch.bfloat16
    needs, spans, window = next(shapes(setting, dtype))
    case = replace(make_case(replace(needs, device="cpu"), spans, window), needs=needs)
    began = perf_counter()
    run(candidate.make(needs), case)
    return Figure(f"build, {candidate.name}", perf_counter() - began, "s", note="compiled at the first launch")


def bits(setting: Setting, candidate: Candidate) -> Figure:
    """Whether a token has the same bits in one piece and in chunks: what the backends' interface promises."""
    dtype = torch.float16 if setting.device == "cpu" else torch.bfloat16
    length, chunks = (40, [1, 16, 23]) if setting.quick else (1600, [1, 16, 63, 7, 430, 64, 500, 19, 500])
    heads = (4, 2, 32) if setting.quick else (32, 8, 128)
    needs = AttentionNeeds(setting.device, dtype, *heads, 16)
    case = replace(make_case(replace(needs, device="cpu"), [(0, length)]), needs=needs)
    whole, cut = run(candidate.make(needs), case), in_chunks(candidate.make(needs), case, chunks)
    share = 100 * (whole == cut).float().mean().item()
    return Figure(f"same bits in chunks, {candidate.name}", share, "%", bar=100.0)


def moves(setting: Setting) -> Iterator[tuple[str, Differs]]:
    """Pages moved within storage, some moves depending on others."""
    from infergc.heap.moves import Move
    from infergc.worker.devices.copies import kernel_copies

    copy = kernel_copies()
    listed = [(0, 1, 16), (1, 2, 7), (3, 0, 16), (4, 4, 3), (2, 5, 16), (6, 7, 1)]  # source, target, tokens

    def differs(dtype: torch.dtype) -> str:
        arena_L2NGPD = torch.randn(2, 2, 9, 2, 16, 64, dtype=dtype, device=setting.device)
        expected_L2NGPD = arena_L2NGPD.clone()
        for src, dst, tokens in listed:
            expected_L2NGPD[:, :, dst, :, :tokens] = expected_L2NGPD[:, :, src, :, :tokens].clone()
        copy(arena_L2NGPD, [Move("copy", 0, *each) for each in listed])
        return difference(arena_L2NGPD, expected_L2NGPD, {"rtol": 0, "atol": 0})

    for dtype in (torch.bfloat16, torch.float32):
        yield _short(dtype), partial(differs, dtype)


def dense(setting: Setting) -> Iterator[tuple[str, Differs]]:
    """Norms, activation and rotation by fused kernels, beside torch's own operations."""
    from infergc.kernels.triton.dense import TritonOps

    for dtype in (torch.float16,) if setting.device == "cpu" else (torch.bfloat16, torch.float16):
        for name, work in (
            ("norm", Dense.norm), ("activation", Dense.activate), ("rotation", Dense.turn),
            ("rotation with norms", Dense.turn_normed),
        ):  # fmt: skip
            yield f"{name}, {_short(dtype)}", partial(_alike, work, TritonOps, setting, dtype)


def _alike(
    work: "Callable[[Dense, TorchOps], torch.Tensor]", ours: type[TorchOps], setting: Setting, dtype: torch.dtype
) -> str:
    inputs = Dense.drawn(setting, dtype)
    return difference(work(inputs, ours()).float(), work(inputs.wide(), TorchOps()), CLOSE)


@dataclass(frozen=True)
class Dense:
    """Inputs, [T, E], [T, E], [E], [T, 2F], [T, H, D], [T, R], [T, R], [2, D]; none is changed. Two heads are keys."""

    hidden: torch.Tensor
    delta: torch.Tensor
    weight: torch.Tensor
    gate_up: torch.Tensor
    heads: torch.Tensor
    cos: torch.Tensor
    sin: torch.Tensor
    norms: torch.Tensor

    @classmethod
    def drawn(cls, setting: Setting, dtype: torch.dtype) -> "Dense":
        """Random inputs."""
        tokens, width = (5, 64) if setting.quick else (300, 4096)

        def draw(*shape: int) -> torch.Tensor:
            return torch.randn(*shape, dtype=dtype, device=setting.device)

        angles, norms = draw(tokens, 32), 1 + draw(2, 64) / 8
        return cls(
            draw(tokens, width), draw(tokens, width), draw(width), draw(tokens, 2 * width), draw(tokens, 10, 64),
            angles.cos(), angles.sin(), norms,
        )  # fmt: skip

    def wide(self) -> "Dense":
        """The same in float32, where roundings do not count."""
        return Dense(*(getattr(self, each.name).float() for each in fields(self)))

    def norm(self, ops: TorchOps) -> torch.Tensor:
        """Sums and their norms."""
        summed_TE = self.hidden.clone()
        return torch.stack([ops.add_norm(summed_TE, self.delta, self.weight, 1e-5), summed_TE])

    def activate(self, ops: TorchOps) -> torch.Tensor:
        """The gated activation."""
        return ops.silu_mul(self.gate_up)

    def turn(self, ops: TorchOps) -> torch.Tensor:
        """Query and key heads."""
        return self._turned(ops, None, None)

    def turn_normed(self, ops: TorchOps) -> torch.Tensor:
        """The same with a norm before it."""
        return self._turned(ops, *self.norms)

    def _turned(self, ops: TorchOps, q_norm_D: torch.Tensor | None, k_norm_D: torch.Tensor | None) -> torch.Tensor:
        turned_THD = self.heads.clone()
        ops.rotate(turned_THD, Rotation(self.cos, self.sin, 8, q_norm_D, k_norm_D, 1e-5))
        return turned_THD


def _short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
