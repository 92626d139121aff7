"""Plain classes in place of packages that a machine lacks and the engine imports: its measured part needs none of them.

``msgspec`` makes the engine's messages, ``pydantic`` checks its settings, ``llguidance`` follows grammars. Where they
are missing, messages are dataclasses, settings are taken as they are given, and grammars cannot be used. What is
installed is never replaced.
"""

import sys
from collections.abc import Callable
from copy import copy
from dataclasses import dataclass, field
from functools import partial
from importlib.util import find_spec
from types import ModuleType
from typing import Any, Self


def install() -> list[str]:
    """Let the engine be imported here; the names of what was missing."""
    missing = [name for name in _MADE if not _is_installed(name)]
    for name in missing:
        for module in _MADE[name]():
            sys.modules[module.__name__] = module
    return missing


def _is_installed(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except ImportError:
        return False


class _Absent:
    """An object of a package that is not there: it can be made, since modules make some as they are imported."""

    def __init__(self, *_: Any, **__: Any) -> None:
        """Take anything."""

    def __class_getitem__(cls, _: Any) -> type[Self]:
        """In annotations."""
        return cls

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        package = type(self).__module__
        raise ModuleNotFoundError(f"{package} is not installed; {type(self).__name__}.{name} needs it", name=package)


class _Module(ModuleType):
    """A module of which every name that is not here is a class of absent objects."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        made = type(name, (_Absent,), {"__module__": self.__name__.partition(".")[0]})
        setattr(self, name, made)
        return made


class _Struct:
    """What ``msgspec.Struct`` is to its subclasses: fields with defaults, of which lists and dicts are made anew."""

    def __init_subclass__(cls, *, kw_only: bool = False, **_: Any) -> None:
        for name, value in list(vars(cls).items()):
            if isinstance(value, list | dict) and not name.startswith("__"):
                setattr(cls, name, field(default_factory=partial(copy, value)))
        dataclass(kw_only=kw_only)(cls)


class _Field:
    """A setting's default; ``...`` where it has none."""

    def __init__(self, default: Any = ..., **_: Any) -> None:
        self.default = default
        self.metadata: list[object] = []


class _ValidationError(ValueError):
    """Settings are missing or unknown."""

    def errors(self) -> list[dict[str, Any]]:
        """As pydantic tells them."""
        return [{"loc": (), "type": "value_error", "msg": str(self), "input": None}]


class _BaseModel:
    """What ``pydantic.BaseModel`` is to settings, but for types and bounds, which are not looked at."""

    model_fields: dict[str, _Field]

    def __init_subclass__(cls, **_: Any) -> None:
        names = [name for name in cls.__annotations__ if not name.startswith("model_config")]
        cls.model_fields = {name: _field(getattr(cls, name, ...)) for name in names}

    def __init__(self, **values: Any) -> None:
        for name, each in self.model_fields.items():
            setattr(self, name, values.pop(name, each.default))
            if getattr(self, name) is ...:
                raise _ValidationError(f"{name}: is required")
        if values:
            raise _ValidationError(f"{next(iter(values))}: no such setting")
        for check in [each for each in vars(type(self)).values() if getattr(each, "checks_model", False)]:
            check(self)

    def model_dump(self) -> dict[str, Any]:
        """The fields by name."""
        return {name: getattr(self, name) for name in self.model_fields}

    def model_copy(self, update: dict[str, Any] | None = None) -> Self:
        """The same with other values, which are not checked."""
        made = copy(self)
        vars(made).update(update or {})
        return made


def _field(default: Any) -> _Field:
    return default if isinstance(default, _Field) else _Field(default)


def _model_validator(**_: Any) -> Callable[[Any], Any]:
    def mark(check: Any) -> Any:
        check.checks_model = True
        return check

    return mark


def _module(name: str, **names: Any) -> _Module:
    module = _Module(name, "stands in for a package that is not installed")
    vars(module).update(names)
    return module


def _msgspec() -> list[ModuleType]:
    inner = [_module("msgspec.json"), _module("msgspec.msgpack")]
    return [_module("msgspec", Struct=_Struct, json=inner[0], msgpack=inner[1]), *inner]


def _pydantic() -> list[ModuleType]:
    return [
        _module(
            "pydantic", BaseModel=_BaseModel, Field=_Field, ConfigDict=dict, ValidationError=_ValidationError,
            model_validator=_model_validator,
        )
    ]  # fmt: skip


def _llguidance() -> list[ModuleType]:
    inner = _module("llguidance.numpy")
    return [_module("llguidance", numpy=inner), inner]


_MADE: dict[str, Callable[[], list[ModuleType]]] = {
    "llguidance": _llguidance, "msgspec": _msgspec, "pydantic": _pydantic
}  # fmt: skip
