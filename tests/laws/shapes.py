"""Heap shapes for the walks: small enough that everything runs out."""

from dataclasses import dataclass

from infergc.heap.generations import Ages
from infergc.heap.groups import GroupSpec
from infergc.heap.retention import Retention
from infergc.heap.space import SUPERBLOCK_TOKENS
from infergc.heap.stats import HeapConfig
from infergc.policies.retention.generational import Generational
from infergc.policies.retention.hinted import Hinted
from infergc.policies.retention.lru import Lru

_AGES = Ages(young=4, survivor=8, tenured=16)  # steps: a walk takes some hundred


@dataclass(frozen=True)
class Shape:
    """A heap and the streams that live on it.

    ``longest`` bounds a stream's tokens; ``depth`` is steps in flight; ids are 0 … ``alphabet`` - 1.
    """

    name: str
    groups: tuple[GroupSpec, ...]
    page_tokens: int
    slots: int
    longest: int
    depth: int = 2
    alphabet: int = 2
    namespaces: int = 2
    prefix_caching: bool = True
    retention: type[Retention] = Lru
    host: int = 0  # slots of the host tier
    disk: bool = False
    public: int = 0  # tokens of the text that is declared public

    @property
    def compacts(self) -> bool:
        """Whether there are superblocks enough for pages to move between."""
        return max(spec.capacity for spec in self.groups) * self.page_tokens > 2 * SUPERBLOCK_TOKENS

    def policy(self) -> Retention:
        """The policy, heeding hints where it does in an engine."""
        policy = self.retention()
        return Hinted(policy) if self.retention in (Lru, Generational) else policy

    def config(self) -> HeapConfig:
        return HeapConfig(
            self.groups,
            self.page_tokens,
            self.slots,
            self.prefix_caching,
            ages=_AGES,
            host_slots=self.host,
            disk=self.disk,
        )


def _full(pages: int, page_bytes: int = 4096) -> GroupSpec:
    return GroupSpec("full", page_bytes, None, pages)


def _sliding(window: int, pages: int, name: str = "sliding") -> GroupSpec:
    return GroupSpec(name, 1024, window, pages)


SHAPES = (
    Shape("one-16", (_full(26),), 16, 6, 160, public=48),
    Shape("one-8-deep", (_full(300),), 8, 8, 400, retention=Generational),
    Shape("one-32", (_full(21),), 32, 5, 256),
    Shape("unequal-8", (GroupSpec("a", 4096, None, 40), GroupSpec("b", 1024, None, 33)), 8, 6, 120),
    Shape("full-sliding-8", (_full(40), _sliding(20, 36)), 8, 6, 120),
    Shape("sliding-16", (_sliding(24, 18),), 16, 4, 200),
    Shape(
        "three-8",
        (_full(60), _sliding(9, 50, "near"), _sliding(40, 45, "far")),
        8,
        6,
        160,
        namespaces=3,
        retention=Generational,
        public=44,
    ),
    Shape("narrow-8", (_sliding(1, 16), _full(24)), 8, 4, 80, depth=1, retention=Generational),
    Shape("blocks-64", (_full(130), _sliding(200, 121)), 64, 9, 700, retention=Generational),
    Shape("uncached-16", (_full(20), _sliding(33, 17)), 16, 5, 120, prefix_caching=False),
)

# Heaps with tiers below the device: a host that is full at once, one that has room for all, and such with a disk.
TIERED = (
    Shape("host-16", (_full(26),), 16, 6, 160, host=7),
    Shape("roomy-16", (_full(26),), 16, 6, 160, host=300, retention=Generational, public=48),
    Shape("host-sliding-8", (_full(40), _sliding(20, 36)), 8, 6, 120, host=20),
    Shape("disk-16", (_full(26),), 16, 6, 160, namespaces=4, host=16, disk=True, public=48),
    Shape(
        "disk-sliding-8",
        (_full(40), _sliding(9, 30, "near"), _sliding(40, 36, "far")),
        8,
        6,
        120,
        namespaces=4,
        host=32,
        disk=True,
    ),
    Shape("disk-64", (_full(60), _sliding(200, 56)), 64, 7, 700, retention=Generational, host=48, disk=True),
)
