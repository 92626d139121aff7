"""Measuring what a machine allows: a model's matrix products alone, prepacked, and reading memory.

Shapes: T rows, K inputs, N outputs.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import cycle
from pathlib import Path
from statistics import median
from time import perf_counter

import torch

from infergc.engine.rates import AttentionCost, MachineRates
from infergc.kernels.api import DenseOps
from infergc.kernels.cpu.dense import CpuOps
from infergc.kernels.cpu.library import LibraryMissingError
from infergc.kernels.cpu.threads import CpuThreads
from infergc.kernels.torch_ops import TorchOps
from infergc.models.hf_config import model_spec, read_config
from infergc.models.spec import ModelSpec
from infergc.models.weights import Linear, allocate

Shape = tuple[int, int]  # [outputs, inputs]
Product = Callable[[], torch.Tensor]
Way = Callable[[torch.Tensor, torch.Tensor], Product]  # (weight_NK, x_TK) → x @ weight.T, the weight laid out
_COLD_BYTES = 128 << 20  # more than caches hold
_READ_BYTES = 512 << 20
_BLOCKS = 3
_SECONDS = 0.03  # of a block, at least
_SAMPLES = 3  # of a block, at least
_GLANCES, _FAR = 2, 3.0


def measure_rates(
    directory: Path, dtype: str, threads: int, layer_rows: Iterable[int], head_rows: Iterable[int]
) -> MachineRates:
    """Measure this machine for a model. Weights are random: only their shapes and type count.

    Args:
        directory: of the model.
        dtype: of weights, by its name in torch.
        threads: of torch; set for the process.
        layer_rows: numbers of rows to measure the products of a layer with.
        head_rows: numbers of rows to measure the product with the output matrix with.
    """
    torch.set_num_threads(threads)
    spec = model_spec(read_config(directory), getattr(torch, dtype))
    matrices = _matrices(spec)
    bench = _Products(spec.dtype, threads, min(_COLD_BYTES, matrices.nbytes))
    layers = {
        rows: spec.num_layers * sum(bench.seconds(shape, rows) for shape in matrices.layer) for rows in layer_rows
    }
    head = {rows: bench.seconds(matrices.head, rows) for rows in head_rows}
    return MachineRates(
        layers=layers,
        head=head,
        packing=bench.packing,
        matrix_flops=bench.fastest_flops,
        read_bytes=_read_bandwidth(),
        weight_bytes=matrices.nbytes,
        attention=AttentionCost(
            pair_flops=4 * spec.q_width, position_bytes=2 * spec.kv_width * spec.dtype.itemsize, windows=spec.windows
        ),
    )


class _Products:
    """Times products of weights of given shapes and remembers the fastest.

    Args:
        dtype: of weights.
        threads: of the kernels.
        cold_bytes: of copies of a weight that are used in turn, as a model's pass finds its weights cold.

    Attributes:
        packing: what was fastest for each shape and number of rows.
        fastest_flops: operations a second of the fastest product so far.
    """

    def __init__(self, dtype: torch.dtype, threads: int, cold_bytes: int) -> None:
        self.packing: dict[str, str] = {}
        self.fastest_flops = 0.0
        self._ways = ways(dtype, threads)
        self._dtype = dtype
        self._cold_bytes = cold_bytes

    @torch.inference_mode()
    def seconds(self, shape: Shape, rows: int) -> float:
        """Time of one product, by the fastest way of laying out the weight."""
        outputs, inputs = shape
        weight_NK = torch.randn(shape).to(self._dtype)
        copies = max(1, -(-self._cold_bytes // weight_NK.nbytes))
        x_TK = torch.randn(rows, inputs).to(self._dtype)
        packed = {
            name: cycle([way(weight_NK.clone(), x_TK) for _ in range(copies)]) for name, way in self._ways.items()
        }
        timed = _seconds_of(packed)
        fastest = min(timed, key=lambda name: timed[name])
        self.packing[f"{inputs} to {outputs} @ {rows}"] = fastest
        self.fastest_flops = max(self.fastest_flops, 2 * rows * inputs * outputs / timed[fastest])
        return timed[fastest]


def _seconds_of(ways: Mapping[str, Iterator[Product]]) -> dict[str, float]:
    """Time of one product each way: the median of its best block, so that a burst of other work does not count.

    The ways take turns, block by block. One that is far slower at first sight is left out.
    """
    sight = {name: min(_once(products) for _ in range(_GLANCES)) for name, products in ways.items()}
    worth = [name for name in ways if sight[name] <= _FAR * min(sight.values())]
    blocks: dict[str, list[float]] = {name: [] for name in worth}
    for name in worth * _BLOCKS:
        blocks[name].append(_block(ways[name]))
    return {name: min(medians) for name, medians in blocks.items()}


def _block(products: Iterator[Product]) -> float:
    """Median time of products in a row. The first does not count: threads of the way before may be awake yet."""
    next(products)()
    samples: list[float] = []
    began = perf_counter()
    while perf_counter() - began < _SECONDS or len(samples) < _SAMPLES:
        samples.append(_once(products))
    return median(samples)


def _once(products: Iterator[Product]) -> float:
    product = next(products)
    started = perf_counter()
    product()
    return perf_counter() - started


def ways(dtype: torch.dtype, threads: int) -> dict[str, Way]:
    """Every way that can run here, by name.

    Beside those in the model's type there are those in float32: on a CPU without instructions for a 16-bit type
    they may be faster, and what is the least time should not depend on what the engine chose.
    """
    found: dict[str, Way] = {"torch": _by(TorchOps())}
    with suppress(LibraryMissingError):
        found["cpu"] = _by(CpuOps(dtype, CpuThreads(threads)))
    if hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        found["onednn in float32"] = _in_float32(_by_onednn)
        if _onednn_takes(dtype):
            found["onednn"] = _by_onednn
    if hasattr(torch.ops.mkl, "_mkl_linear"):
        found["mkl in float32"] = _in_float32(_by_mkl)
    return found


def _in_float32(way: Way) -> Way:
    return lambda weight_NK, x_TK: way(weight_NK.float(), x_TK.float())


def _by(ops: DenseOps) -> Way:
    return lambda weight_NK, x_TK: partial(ops.linear, x_TK, ops.pack(weight_NK, None))


def _by_onednn(weight_NK: torch.Tensor, x_TK: torch.Tensor) -> Product:
    """A product with a weight that oneDNN has reordered, as torch's compiler calls it."""
    onednn = torch.ops.mkldnn
    packed = onednn._reorder_linear_weight(weight_NK, len(x_TK))  # noqa: SLF001 - it has no other name
    return partial(onednn._linear_pointwise, x_TK, packed, None, "none", [], "")  # noqa: SLF001


def _onednn_takes(dtype: torch.dtype) -> bool:
    onednn = torch.ops.mkldnn
    checks = {
        torch.bfloat16: onednn._is_mkldnn_bf16_supported,  # noqa: SLF001 - as above
        torch.float16: onednn._is_mkldnn_fp16_supported,  # noqa: SLF001
    }
    return dtype in checks and bool(checks[dtype]())


def _by_mkl(weight_NK: torch.Tensor, x_TK: torch.Tensor) -> Product:
    """MKL's packed product, each number of rows has a layout of its own."""
    rows, mkl = len(x_TK), torch.ops.mkl
    packed = mkl._mkl_reorder_linear_weight(weight_NK, rows)  # noqa: SLF001 - as above
    return partial(mkl._mkl_linear, x_TK, packed, weight_NK, None, rows)  # noqa: SLF001


@dataclass(frozen=True, slots=True)
class _Matrices:
    """What every token is multiplied with, fused as the engine fuses it.

    Attributes:
        layer: shapes of the matrices of one layer.
        head: shape of the output matrix.
        nbytes: of the matrices of all layers and the output matrix.
    """

    layer: list[Shape]
    head: Shape
    nbytes: int


def _matrices(spec: ModelSpec) -> _Matrices:
    with torch.device("meta"):
        weights = allocate(spec)
    first = weights.layers[0]
    layer = [_shape(linear) for linear in (first.qkv, first.out, first.gate_up, first.down)]
    return _Matrices(layer, _shape(weights.head), sum(linear.weight.nbytes for linear in weights.linears()))


def _shape(linear: Linear) -> Shape:
    outputs, inputs = linear.weight.shape
    return outputs, inputs


def _read_bandwidth() -> float:
    """Bytes a second of the fastest of several passes over memory that no cache holds."""
    block = torch.ones(_READ_BYTES // 8, dtype=torch.int64)
    passes = []
    for _ in range(5):
        started = perf_counter()
        block.sum()
        passes.append(perf_counter() - started)
    return _READ_BYTES / min(passes)
