"""A watch over live tensors: which came after the model's, for how long they live, and which become ever more."""

import gc
from collections import defaultdict
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass
from weakref import ref

import torch

from infergc.engine.census import TensorCensus, TensorGroup, largest
from infergc.engine.garbage import thawed
from infergc.worker.debug.holders import held_by
from infergc.worker.loading.dtypes import name

_RISES = (
    3  # times that a look found more old tensors than before, and none between found fewer: then they are suspected
)

_SCALAR = "scalar"

_Kind = tuple[str, str, str]  # dtype, shape, device
_Live = Mapping[int, torch.Tensor]  # by id


@dataclass(frozen=True, slots=True)
class _Seen:
    """A tensor that was seen alive; it is not kept alive. Ids are used again, so the reference decides."""

    tensor: ref[torch.Tensor]
    kind: _Kind
    storage: int  # address
    size: int  # bytes of the storage
    since: int  # step of the look that saw it first


_Groups = Mapping[_Kind, list[_Seen]]


@dataclass(slots=True)
class _Growth:
    """How the old tensors of a kind, those that an earlier look had seen, became more."""

    old: int = 0
    rises: int = 0

    def note(self, old: int) -> None:
        """Take the number at the next look."""
        if old != self.old:
            self.rises = self.rises + 1 if old > self.old else 0
            self.old = old


class TensorWatch:
    """Looks at every tensor that Python tracks and keeps none alive.

    Objects that are frozen are not listed by ``gc``: they are the model's, and cost nothing here. Tensors are grouped
    by type, shape and device, and once more with the first dimension left open: what is leaked for each prompt
    is as long as the prompt.
    """

    def __init__(self) -> None:
        self._step = -1
        self._model: dict[int, tuple[ref[torch.Tensor], int]] | None = None  # id → itself, storage; from the first look
        self._model_storages: set[int] = set()  # of those that still live: addresses are used again, too
        self._seen: dict[int, _Seen] = {}  # by id
        self._growth: dict[_Kind, _Growth] = {}
        self._held_by: dict[_Kind, str] = {}
        self._explained: set[_Kind] = set()  # suspects whose holders were searched for among all objects

    def look(self, step: int) -> TensorCensus:
        """Count what lives; see ``engine.ports.Executor.census``. It costs what lives and is not frozen."""
        live = self._live()
        if self._model is None:
            self._model = {key: (ref(tensor), _storage(tensor)[0]) for key, tensor in live.items()}
            return TensorCensus()
        self._model_storages = {storage for tensor, storage in self._model.values() if tensor() is not None}
        before, self._seen = self._seen, {key: self._known(tensor, step) for key, tensor in live.items()}
        groups = _by_kind(self._seen.values())
        freed: list[_Seen] = []
        if step == self._step:
            freed = [seen for key, seen in before.items() if self._seen.get(key) is not seen]
        else:
            self._step = step
            self._note_growth(groups)
            self._describe(groups, live)
        suspects = self._suspects(groups)
        self._explain(suspects, groups, live)
        return TensorCensus(
            tensors=len(self._seen),
            bytes=self._bytes(self._seen.values()),
            suspects=largest(self._group(kind, groups[kind]) for kind in suspects),
            cycles=largest(self._freed_groups(freed)),
        )

    def _live(self) -> _Live:
        """All tensors but the model's; those that were frozen since they were first seen are among them."""
        objects = gc.get_objects()
        kinds = {kind for kind in set(map(type, objects)) if issubclass(kind, torch.Tensor)}
        found = {id(item): item for item in objects if type(item) in kinds}
        for seen in self._seen.values():
            tensor = seen.tensor()
            if tensor is not None:
                found[id(tensor)] = tensor
        model = self._model or {}
        return {key: tensor for key, tensor in found.items() if key not in model or model[key][0]() is not tensor}

    def _known(self, tensor: torch.Tensor, step: int) -> _Seen:
        seen = self._seen.get(id(tensor))
        if seen is not None and seen.tensor() is tensor:
            return seen
        return _Seen(ref(tensor), _kind(tensor), *_storage(tensor), step)

    def _note_growth(self, groups: _Groups) -> None:
        self._growth = {kind: self._growth.get(kind, _Growth()) for kind in groups}
        for kind, growth in self._growth.items():
            growth.note(sum(seen.since < self._step for seen in groups[kind]))

    def _suspects(self, groups: _Groups) -> list[_Kind]:
        """The kinds that grew; one with the first dimension open only if that says more."""
        grown = [kind for kind, growth in self._growth.items() if growth.rises >= _RISES and kind in groups]
        said = {_open(kind) for kind in grown if not _is_open(kind)}
        return [kind for kind in grown if kind not in said]

    def _describe(self, groups: _Groups, live: _Live) -> None:
        """Name who holds the new tensors: where a cycle does, nobody will after the next collection."""
        self._held_by = {kind: text for kind, text in self._held_by.items() if kind in groups}
        new = {kind: [seen for seen in members if seen.since == self._step] for kind, members in groups.items()}
        exact = (self._group(kind, members) for kind, members in new.items() if members and not _is_open(kind))
        for group in largest(exact):
            kind = (group.dtype, group.shape, group.device)
            if kind not in self._explained:
                self._held_by[kind] = held_by(new[kind][0].tensor(), {id(live)})

    def _explain(self, suspects: Iterable[_Kind], groups: _Groups, live: _Live) -> None:
        """Name who holds suspects, once: the holder may be as old as the model and frozen, which takes a while."""
        new = [kind for kind in suspects if kind not in self._explained]
        if new:
            self._explained.update(new)
            with thawed():
                self._held_by.update({kind: held_by(groups[kind][0].tensor(), {id(live)}) for kind in new})

    def _freed_groups(self, freed: list[_Seen]) -> Iterable[TensorGroup]:
        still = {seen.storage for seen in self._seen.values()}
        for kind, members in _by_kind(freed).items():
            if not _is_open(kind):
                yield self._group(kind, members, still)

    def _group(self, kind: _Kind, members: list[_Seen], but: Container[int] = ()) -> TensorGroup:
        age = self._step - min(seen.since for seen in members)
        return TensorGroup(*kind, len(members), self._bytes(members, but), age, self._held_by.get(kind, ""))

    def _bytes(self, members: Iterable[_Seen], but: Container[int] = ()) -> int:
        """Of their storages, each once, without the model's and those excepted."""
        sizes = {seen.storage: seen.size for seen in members if seen.storage not in but}
        return sum(size for storage, size in sizes.items() if storage not in self._model_storages)


def _by_kind(members: Iterable[_Seen]) -> dict[_Kind, list[_Seen]]:
    groups: defaultdict[_Kind, list[_Seen]] = defaultdict(list)
    for seen in members:
        groups[seen.kind].append(seen)
        if seen.kind != _open(seen.kind):
            groups[_open(seen.kind)].append(seen)
    return dict(groups)


def _open(kind: _Kind) -> _Kind:
    """The kind with the first dimension left open; a scalar's has none."""
    dtype, shape, device = kind
    _, times, rest = shape.partition("x")
    return (dtype, shape if shape == _SCALAR else f"?{times}{rest}", device)


def _is_open(kind: _Kind) -> bool:
    return kind[1].startswith("?")


def _kind(tensor: torch.Tensor) -> _Kind:
    return name(tensor.dtype), "x".join(map(str, tensor.shape)) or _SCALAR, str(tensor.device)


def _storage(tensor: torch.Tensor) -> tuple[int, int]:
    """Address and bytes of what is behind a tensor; what is made of others has none: those count for themselves."""
    try:
        storage = tensor.untyped_storage()
        return storage.data_ptr(), storage.nbytes()
    except (NotImplementedError, RuntimeError):  # of sparse tensors, and of those that wrap others
        return 0, 0
