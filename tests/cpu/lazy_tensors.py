"""Tensors of a device that is not there: each holds one on the host, on which a stream works when it comes to that.

Views are had at once. All else is given to the calling thread's stream: what it reads is read, and what it writes is
written, when the stream comes to it. Until then memory holds values that nobody would compute.
"""

import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from cpu.lazy_streams import Machine, Stream

PLACE = torch.device("lazy")  # a type that torch knows and that needs no backend
_COPY = torch.ops.aten.copy_.default
_WAITS = {torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape}
_INDEXING = {torch.ops.aten.index.Tensor, torch.ops.aten.index_put_.default}


class LazyTensor(torch.Tensor):
    """A tensor there.

    Attributes:
        machine: whose it is.
        held: the same on the host.
        origin: the stream that it was made in.
    """

    machine: Machine
    held: torch.Tensor
    origin: Stream

    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, machine: Machine, held: torch.Tensor, origin: Stream) -> "LazyTensor":
        shape, strides, start = held.shape, held.stride(), held.storage_offset()
        with torch.inference_mode(False):  # or it could be written to in that mode alone
            made: LazyTensor = torch.Tensor._make_wrapper_subclass(
                cls, shape, strides=strides, storage_offset=start, dtype=held.dtype, device=PLACE
            )
        return made

    def __init__(self, machine: Machine, held: torch.Tensor, origin: Stream) -> None:
        self.machine = machine
        self.held = held
        self.origin = origin

    def __repr__(self) -> str:
        return f"LazyTensor({tuple(self.shape)}, {self.dtype})"

    def tolist(self) -> Any:
        return self.cpu().tolist()  # torch has none for tensors of this kind

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = next(leaf for leaf in _leaves((args, kwargs)) if isinstance(leaf, LazyTensor))
        return _Call(found.machine, func, args, kwargs or {}).carry_out()


class LazyMode(TorchDispatchMode):
    """Has tensors made there that are asked for by the device's name, and pinned memory on the host without a driver.

    A mode is a thread's own.
    """

    def __init__(self, machine: Machine) -> None:
        super().__init__()
        self._machine = machine

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if kwargs.pop("pin_memory", False):
            return pin(poisoned(func(*args, **kwargs)))
        there = kwargs.get("device") == PLACE or any(isinstance(leaf, LazyTensor) for leaf in _leaves((args, kwargs)))
        if not there:
            return func(*args, **kwargs)
        return _Call(self._machine, func, args, kwargs).carry_out()


_pinned: set[int] = set()  # addresses


def is_pinned(memory: torch.Tensor) -> bool:
    """Whether a stream copies from and to it when it comes to that."""
    return memory.untyped_storage().data_ptr() in _pinned


def pin(memory: torch.Tensor) -> torch.Tensor:
    """Copies from and to it are made when a stream comes to them."""
    storage = memory.untyped_storage()
    register(storage.data_ptr())
    weakref.finalize(storage, unregister, storage.data_ptr())
    return memory


def register(address: int) -> None:
    """Memory that begins there is pinned."""
    _pinned.add(address)


def unregister(address: int) -> None:
    """It is not, from now on."""
    _pinned.discard(address)


def poisoned(memory: torch.Tensor) -> torch.Tensor:
    """Fill it with what nobody would compute."""
    if memory.dtype.is_floating_point:
        return memory.fill_(float("nan"))
    return memory.fill_(True if memory.dtype == torch.bool else 0x55)


class _Call:
    """An operation that involves the device."""

    def __init__(self, machine: Machine, func: Any, args: Any, kwargs: dict[str, Any]) -> None:
        self._machine = machine
        self._func = func
        self._args = args
        self._kwargs = kwargs
        self._stream = machine.current()

    def carry_out(self) -> Any:
        if self._func._can_decompose():
            with LazyMode(self._machine):
                return self._func.decompose(*self._args, **self._kwargs)
        self._note_crossing()
        if self._func is _COPY:
            return self._copy(*self._args, **self._kwargs)
        if self._func is torch.ops.aten._to_copy.default and self._conveys():
            return self._convey(self._args[0], **self._kwargs)
        assert self._kwargs.get("device") in (None, PLACE), f"{self._func}: of a tensor there, one here"
        self._refuse_two_devices()
        if self._func.is_view:
            return self._at_once()
        if self._waits():
            self._machine.host_wait(str(self._func))
            return self._at_once()
        return self._in_place() if self._func._schema.is_mutable else self._functional()

    # ---- what is not given to a stream, or is an operation like others

    def _at_once(self) -> Any:
        with torch.inference_mode():
            found = self._func(*_mapped(_held, self._args), **_mapped(_held, self._kwargs))
        return _mapped(lambda leaf: self._wrap(leaf) if isinstance(leaf, torch.Tensor) else leaf, found)

    def _in_place(self) -> Any:
        written = self._func._schema.arguments[0].alias_info
        assert written is not None, f"{self._func} writes to another than its first argument"
        self._give(self._func, *self._args, **self._kwargs)
        return self._args[0]

    def _functional(self) -> Any:
        """Its results are there at once, without what will be in them."""
        made = _mapped(_Outline.memory, _outline(self._func, self._args, self._kwargs))

        def fill(*args: Any, **kwargs: Any) -> None:
            for target, source in zip(_leaves(made), _leaves(self._func(*args, **kwargs)), strict=True):
                target.copy_(source)

        self._give(fill, *self._args, **self._kwargs)
        return _mapped(self._wrap, made)

    def _waits(self) -> bool:
        """Whether shapes or values have to be known before anything else can be given."""
        if self._func in _INDEXING:
            return any(each is not None and each.dtype in (torch.bool, torch.uint8) for each in self._args[1])
        return not _WAITS.isdisjoint(self._func.tags)

    def _note_crossing(self) -> None:
        for leaf in _leaves((self._args, self._kwargs)):
            if isinstance(leaf, LazyTensor) and leaf.origin not in (self._stream, self._machine.default):
                self._machine.crossed.append(str(self._func))

    def _refuse_two_devices(self) -> None:
        for leaf in _leaves((self._args, self._kwargs)):
            if isinstance(leaf, torch.Tensor) and not isinstance(leaf, LazyTensor) and leaf.dim():
                raise RuntimeError(f"{self._func}: Expected all tensors to be on the same device")

    # ---- copies between host and device

    def _conveys(self) -> bool:
        source = self._args[0]
        return bool(self._kwargs.get("device", source.device) != source.device)

    def _convey(self, source: torch.Tensor, *, dtype: Any = None, non_blocking: bool = False, **_: Any) -> torch.Tensor:
        held = source.held if isinstance(source, LazyTensor) else source
        made = poisoned(_memory_like(held, dtype))
        target = made if isinstance(source, LazyTensor) else self._wrap(made)
        return self._copy(target, source, non_blocking)

    def _copy(self, target: torch.Tensor, source: torch.Tensor, non_blocking: bool = False) -> torch.Tensor:
        here = [each for each in (target, source) if not isinstance(each, LazyTensor)]
        waits = bool(here) and not (non_blocking and is_pinned(here[0]))
        if here and here[0] is source:
            self._machine.uploads.append(self._stream.name)
            source = source.clone() if waits else source
        self._give(_COPY, target, source)
        if waits:
            self._machine.host_wait("a copy from or to memory that is not pinned")
        return target

    # ---- giving

    def _give(self, work: Any, *args: Any, **kwargs: Any) -> None:
        args, kwargs = _mapped(_held, args), _mapped(_held, kwargs)
        self._machine.give(lambda: work(*args, **kwargs), self._stream)

    def _wrap(self, held: torch.Tensor) -> LazyTensor:
        return LazyTensor(self._machine, held, self._origin())

    def _origin(self) -> Stream:
        """Of what is had by this: a view is its base's."""
        if self._func.is_view:
            return next(leaf.origin for leaf in _leaves(self._args) if isinstance(leaf, LazyTensor))
        return self._stream


def _held(leaf: Any) -> Any:
    """What an operation is done with on the host."""
    if isinstance(leaf, LazyTensor):
        return leaf.held
    return torch.device("cpu") if isinstance(leaf, torch.device) else leaf


# ---- arguments and results: lists in lists


def _leaves(tree: Any) -> Iterator[Any]:
    if isinstance(tree, list | tuple):
        for each in tree:
            yield from _leaves(each)
    elif isinstance(tree, dict):
        yield from _leaves(list(tree.items()))
    else:
        yield tree


def _mapped(change: Callable[[Any], Any], tree: Any) -> Any:
    """The same of changed leaves, lists as tuples; the keys of mappings stay."""
    if isinstance(tree, list | tuple):
        return tuple([_mapped(change, each) for each in tree])
    if isinstance(tree, dict):
        return {name: _mapped(change, each) for name, each in tree.items()}
    return change(tree)


# ---- what an operation's results will be like


@dataclass(frozen=True)
class _Outline:
    """A tensor without what is in it."""

    shape: tuple[int, ...]
    strides: tuple[int, ...]
    dtype: torch.dtype

    @classmethod
    def of(cls, leaf: Any) -> Any:
        """A tensor's; anything else as it is."""
        return cls(tuple(leaf.shape), leaf.stride(), leaf.dtype) if isinstance(leaf, torch.Tensor) else leaf

    def memory(self) -> torch.Tensor:
        with torch.inference_mode():
            return poisoned(torch.empty_strided(self.shape, self.strides, dtype=self.dtype))

    def meta(self) -> torch.Tensor:
        return torch.empty_strided(self.shape, self.strides, dtype=self.dtype, device="meta")


def _memory_like(held: torch.Tensor, dtype: torch.dtype | None) -> torch.Tensor:
    with torch.inference_mode():
        return torch.empty_like(held, dtype=dtype)


_found: dict[Any, Any] = {}


def _outline(func: Any, args: Any, kwargs: Any) -> Any:
    """Outlines of its results, by torch's own rules; found once for operations alike."""
    args, kwargs = _mapped(_Outline.of, args), _mapped(_Outline.of, kwargs)
    key = func, tuple((type(leaf), leaf) for leaf in _leaves((args, kwargs)))  # 1, 1.0 and True are equal
    if key not in _found:
        _found[key] = _mapped(_Outline.of, func(*_mapped(_meta, args), **_mapped(_meta, kwargs)))
    return _found[key]


def _meta(leaf: Any) -> Any:
    if isinstance(leaf, _Outline):
        return leaf.meta()
    return torch.device("meta") if isinstance(leaf, torch.device) else leaf
