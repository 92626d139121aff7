"""Pages between device and host as a share of the link, in runs and one by one; and moves within the device.

The link is one copy of as many bytes between the device and pinned memory of the host, before and after in each round.
"""

from collections.abc import Iterator
from statistics import median

import numpy as np
import torch
from transfers import PAGE, SHAPES, model_of

from infergc.bench.gpu.figure import Figure, not_run, of_rounds
from infergc.bench.gpu.section import Setting
from infergc.heap.groups import GroupSpec
from infergc.heap.moves import Move
from infergc.models.spec import ModelSpec
from infergc.units import KIB, MIB, format_bytes
from infergc.worker.devices.cuda_device import CudaDevice
from infergc.worker.devices.device import Device, HostDevice
from infergc.worker.memory.storage import KVStorage, LayerGroups

RUNS = (1, 4, 16, 64)  # pages
ROUNDS = 5


class Tiers:
    """An arena on the device and one on the host, as many pages in each, and a flat piece of memory in both.

    Args:
        device: where.
        model: gives layers and heads.
        page_bytes: of a page.
        size: bytes in each.
    """

    def __init__(self, device: Device, model: ModelSpec, page_bytes: int, size: int) -> None:
        self.device, self.pages, self.bytes = device, size // page_bytes, size // page_bytes * page_bytes
        spec = GroupSpec("full", page_bytes, capacity=self.pages)
        groups = LayerGroups((spec,), (0,) * model.num_layers)
        self.storage = KVStorage(model, groups, (spec,), PAGE, self.pages, device)
        self._there, self._here = device.memory(self.bytes), device.host_memory(self.bytes)
        for layer in range(model.num_layers):
            for pages_NGPD in self.storage.layer(layer):
                pages_NGPD.normal_()

    def plain(self, kind: str) -> float:
        """Bytes a second of one copy, each way of which is a kind of move."""
        pair = (self._there, self._here) if kind == "load" else (self._here, self._there)
        began = self.device.fence()
        pair[0].copy_(pair[1], non_blocking=True)
        return self.bytes / self._since(began)

    def transfers(self, kind: str, run: int) -> float:
        """Bytes a second of all pages in runs, from places in one order to places in the opposite order."""
        firsts = np.random.default_rng(0).permutation(self.pages // run) * run
        moves = [Move(kind, 0, a, b, PAGE, run) for a, b in zip(firsts.tolist(), firsts[::-1].tolist(), strict=True)]
        began = self.device.fence()
        for move in moves:
            self.storage.transfer(move)
        return sum(map(self.storage.size, moves)) / self._since(began)

    def differs(self) -> str:
        """Whether what goes to the host in runs and comes back in the other order is not what it was."""
        kept = [[pages_NGPD.clone() for pages_NGPD in self.storage.layer(layer)] for layer in (0, -1)]
        run = min(16, self.pages)
        whole = self.pages // run * run
        for kind in ("store", "load"):  # the order there is undone by the order back
            self.transfers(kind, run)
        for layer, before in zip((0, -1), kept, strict=True):
            for is_now, was in zip(self.storage.layer(layer), before, strict=True):
                if not torch.equal(is_now[:whole], was[:whole]):
                    return "pages came back from the host as others"
        return ""

    def _since(self, began: object) -> float:
        ended = self.device.fence()
        if self.device.place.type == "cuda":
            ended.synchronize()
        return self.device.seconds(began, ended)


def measure(setting: Setting) -> Iterator[Figure]:
    """Runs of every length, both ways, in rounds."""
    page_bytes, size = (64 * KIB, 4 * MIB) if setting.quick else (2 * MIB, 1024 * MIB)
    device = CudaDevice() if setting.device == "cuda" else HostDevice()
    tiers = Tiers(device, model_of(*SHAPES[page_bytes]), page_bytes, size)
    if found := tiers.differs():
        yield Figure("pages there and back", wrong=found)
    ways = [(kind, run) for kind in ("store", "load") for run in RUNS if run <= tiers.pages]
    shares: dict[tuple[str, int], list[float]] = {way: [] for way in ways}
    links: dict[str, list[float]] = {"store": [], "load": []}
    for _ in range(2 if setting.quick else ROUNDS):
        for way in ways:
            before = tiers.plain(way[0])
            speed = tiers.transfers(*way)
            links[way[0]].append((before + tiers.plain(way[0])) / 2)
            shares[way].append(100 * speed / links[way[0]][-1])
    yield of_rounds("link, device to host", [speed / 1e9 for speed in links["store"]], "GB/s")
    yield of_rounds("link, host to device", [speed / 1e9 for speed in links["load"]], "GB/s")
    pages = format_bytes(page_bytes)
    for (kind, run), found in shares.items():
        gain = median(found) / median(shares[kind, 1])
        note = f"of the link; {gain:.2f} x single pages"
        yield of_rounds(f"{kind}, runs of {run} x {pages}", found, "%", note=note)
    try:
        yield moves(setting)
    except Exception as error:  # noqa: BLE001 - what was measured is told already
        yield not_run("moves within the device", error)


def moves(setting: Setting) -> Figure:
    """Compaction's kernel: single pages to places elsewhere, as a share of a plain copy."""
    from gpu_sections.timing import Ceilings, Stopwatch
    from infergc.kernels.triton.moving import move_pages

    layers, pages = (2, 8) if setting.quick else (32, 512)
    arena_L2NGPD = torch.randn(layers, 2, pages, 8, PAGE, 128, device=setting.device).to(torch.bfloat16)
    order = np.random.default_rng(0).permutation(pages)
    source, target = order[: pages // 2].tolist(), order[pages // 2 :].tolist()
    moved = 2 * arena_L2NGPD[:, :, 0].numel() * arena_L2NGPD.itemsize * len(source)  # read and written
    watch = Stopwatch(setting.device)
    ceiling = Ceilings(setting.device, torch.float32, moved // 2, 64).bandwidth()
    seconds = watch.seconds(lambda: move_pages(arena_L2NGPD, source, target, [PAGE] * len(source), [len(source)]), 5)
    shares = [100 * moved / each / ceiling for each in seconds]
    return of_rounds("moves within the device, single pages", shares, "%", note="of a copy of as many bytes")
