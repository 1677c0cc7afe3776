"""Registry of plug-ins: one class serves targets, samplers and metrics.

A plug-in registers itself by a decorator beside its definition. The modules of the package, the entry points of
installed packages and the files given as ``--plugin`` are all found the same way: by importing them.
"""

import dataclasses
import difflib
import hashlib
import importlib
import importlib.metadata
import importlib.util
import pkgutil
import sys
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar

T = TypeVar("T")
PLUGIN_PREFIX = "samplerbench_plugin_"


class UnknownNameError(KeyError):
    """A name that nothing is registered under; its message lists the known names and the closest."""

    def __str__(self) -> str:  # KeyError would print the repr of its message
        return str(self.args[0])


def unknown(kind: str, name: str, known: Iterable[str]) -> UnknownNameError:
    """The error for an unknown name: what was asked for, the closest known name, and all known names."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f"; did you mean {close[0]!r}?" if close else "."
    return UnknownNameError(f"unknown {kind} {name!r}{hint} Known: {', '.join(names)}")


@dataclass(frozen=True)
class Entry(Generic[T]):
    """One registered name: how to build it, with which preset parameters, and which version of its law it is."""

    name: str
    version: int
    build: Callable[..., T]
    parameters: Mapping[str, object]

    @property
    def summary(self) -> str:
        """First line of the docstring."""
        return (self.build.__doc__ or "").strip().split("\n")[0]

    @property
    def plugin_hash(self) -> str | None:
        """Hash of the plug-in file that defines the entry; None for what an installed package defines."""
        module = self.build.__module__
        return module.removeprefix(PLUGIN_PREFIX) if module.startswith(PLUGIN_PREFIX) else None


class Registry(Generic[T]):
    """Names of one kind of plug-in (``kind``), found in ``package`` and in the entry points of the same name."""

    def __init__(self, kind: str, package: str) -> None:
        self.kind = kind
        self.package = package
        self._entries: dict[str, Entry[T]] = {}
        self._discovered = False

    def register(self, name: str, build: Callable[..., T], *, version: int, **parameters: object) -> None:
        """Register ``build`` under ``name``.

        Raises:
            ValueError: if the name is taken, or the version is not a positive integer.
        """
        if name in self._entries:
            taken = self._entries[name].build
            raise ValueError(f"{self.kind} name {name!r} is taken by {taken.__module__}.{taken.__qualname__}")
        if version < 1:
            raise ValueError(f"version of {self.kind} {name!r} must be at least 1, got {version}")
        self._entries[name] = Entry(name, version, build, parameters)

    def names(self) -> list[str]:
        """All registered names, sorted."""
        self._discover()
        return sorted(self._entries)

    def entry(self, name: str) -> Entry[T]:
        """The entry registered under ``name``.

        Raises:
            UnknownNameError: (a KeyError) naming the closest known name and all known ones.
        """
        self._discover()
        if name not in self._entries:
            raise unknown(self.kind, name, self._entries)
        return self._entries[name]

    def versioned(self, name: str) -> str:
        """``name@version``; UnknownNameError as in ``entry``."""
        return f"{name}@{self.entry(name).version}"

    def get(self, name: str, **parameters: object) -> T:
        """Build ``name`` with its preset parameters, updated by ``parameters`` (nested tables allowed).

        Raises:
            UnknownNameError: for an unknown name.
            ValueError: for an unknown parameter, or a value that the configuration refuses.
        """
        entry = self.entry(name)
        try:
            return configure(entry.build, _merged(entry.parameters, parameters))
        except ValueError as error:
            raise ValueError(f"{self.kind} {name!r}: {error}") from error

    def _discover(self) -> None:
        if self._discovered:
            return
        self._discovered = True  # before the imports: a family may look others up while it is imported
        package = importlib.import_module(self.package)
        for module in pkgutil.walk_packages(package.__path__, self.package + "."):
            if not module.ispkg:
                importlib.import_module(module.name)
        for point in importlib.metadata.entry_points(group=self.package):
            point.load()


def load_plugin(path: Path) -> str:
    """Import a plug-in file, so that what it defines is registered; the same file twice is imported once.

    Returns:
        SHA-256 of the file, which belongs to the identity of every run that uses it.
    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file cannot be imported; the message carries the cause.
    """
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    name = PLUGIN_PREFIX + digest
    if name in sys.modules:
        return digest
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ValueError(f"plug-in {path} is not a Python file (its name must end in .py)")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up while it is executed
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        raise ValueError(f"plug-in {path} cannot be imported: {type(error).__name__}: {error}") from error
    return digest


def _merged(preset: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """``preset`` updated by ``given``; of two tables under one name, the preset one is updated in the same way."""
    merged = {**preset, **given}
    for name in preset.keys() & given.keys():
        if isinstance(preset[name], Mapping) and isinstance(given[name], Mapping):
            merged[name] = _merged(preset[name], given[name])
    return merged


def configure(build: Callable[..., T], parameters: Mapping[str, object]) -> T:
    """Call ``build`` with parameters as they come from TOML or the command line.

    For a dataclass, each value is checked against the type of its field, and a table given for a field that is
    itself a dataclass updates that field's default.

    Raises:
        ValueError: naming the field, the rule and the value.
    """
    cls: Any = build
    if not dataclasses.is_dataclass(cls):
        return build(**parameters)
    fields = {field.name: field for field in dataclasses.fields(cls) if field.init}
    hints = typing.get_type_hints(cls)
    values: dict[str, object] = {}
    for name, value in parameters.items():
        if name not in fields:
            raise ValueError(str(unknown("parameter", name, fields)))
        values[name] = _checked(name, hints[name], value, fields[name])
    return build(**values)


def _checked(name: str, hint: Any, value: Any, field: "dataclasses.Field[Any]") -> object:
    """``value`` as the field's type, or a ValueError that names the field, the rule and the value."""
    origin = typing.get_origin(hint)
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        if isinstance(value, hint):
            return value
        if isinstance(value, Mapping):
            factory: Any = field.default_factory
            default = field.default if factory is dataclasses.MISSING else factory()
            inner = {f.name: getattr(default, f.name) for f in dataclasses.fields(hint) if hasattr(default, f.name)}
            return configure(hint, {**inner, **value})
        raise ValueError(f"{name} must be a table of parameters, got {value!r}")
    if origin in (types.UnionType, typing.Union):
        options = typing.get_args(hint)
        tables = [option for option in options if dataclasses.is_dataclass(option)]
        if isinstance(value, Mapping) and len(tables) == 1:  # its own error says more than that of all options
            return _checked(name, tables[0], value, field)
        for option in options:
            try:
                return _checked(name, option, value, field)
            except ValueError:
                continue
        raise ValueError(f"{name} must be {hint}, got {value!r}")
    if origin is Literal:
        options = typing.get_args(hint)
        if value not in options:
            raise ValueError(f"{name} must be one of {', '.join(map(repr, options))}, got {value!r}")
        return value
    if origin is tuple and isinstance(value, list | tuple):
        item = typing.get_args(hint)[0]
        return tuple(_checked(name, item, part, field) for part in value)
    if hint is type(None) and value is None:
        return None
    is_number = isinstance(value, int) and not isinstance(value, bool)
    if hint is float and (is_number or value in ("inf", "-inf")):  # JSON has no infinities
        return float(value)
    if origin is Mapping:
        if isinstance(value, Mapping):
            return value
        raise ValueError(f"{name} must be a table, got {value!r}")
    is_bool_as_int = hint is int and isinstance(value, bool)
    if isinstance(hint, type) and origin is None and isinstance(value, hint) and not is_bool_as_int:
        return value
    raise ValueError(f"{name} must be {getattr(hint, '__name__', hint)}, got {value!r}")
