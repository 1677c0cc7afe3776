"""The registry: names, errors that help, nested configurations, plug-in files."""

import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest

from samplerbench import samplers
from samplerbench.targets.registry import (
    PLUGIN_PREFIX,
    Registry,
    UnknownNameError,
    configure,
    load_plugin,
    unknown,
)


@dataclass(frozen=True, kw_only=True)
class Inner:
    width: int = 64
    rate: float = 0.1

    def __post_init__(self) -> None:
        if self.width < 1:
            raise ValueError(f"width must be at least 1, got {self.width}")


@dataclass(frozen=True, kw_only=True)
class Method:
    """First line of the summary.

    And more.
    """

    step_size: float = 0.02
    n_steps: int = 5
    mode: Literal["restart", "long"] = "restart"
    robust: bool = False
    label: str = ""
    limit: float | None = None
    levels: tuple[float, ...] = (1.0,)
    inner: Inner = Inner()
    made: Inner = field(default_factory=lambda: Inner(width=8))


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Registry[Method]:
    """An empty registry over a package of two modules that nothing else imports."""
    name = f"package_of_{tmp_path.name}".replace("-", "_")
    package = tmp_path / name
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "first.py").write_text("loaded = True\n")
    (package / "second.py").write_text("loaded = True\n")
    monkeypatch.syspath_prepend(tmp_path)
    return Registry("method", name)


def test_names_are_sorted_and_modules_of_the_package_are_imported(registry: Registry[Method]) -> None:
    registry.register("second", Method, version=1)
    registry.register("first", Method, version=3)
    assert registry.names() == ["first", "second"]
    assert sys.modules[f"{registry.package}.first"].loaded
    assert sys.modules[f"{registry.package}.second"].loaded
    entry = registry.entry("first")
    assert (entry.version, entry.summary, entry.plugin_hash) == (3, "First line of the summary.", None)


def test_unknown_names_list_the_closest_and_all(registry: Registry[Method]) -> None:
    registry.register("funnel10", Method, version=1)
    registry.register("donut", Method, version=1)
    for ask in (registry.get, registry.entry):
        with pytest.raises(UnknownNameError) as error:
            ask("funel10")
        assert str(error.value) == "unknown method 'funel10'; did you mean 'funnel10'? Known: donut, funnel10"
        assert isinstance(error.value, KeyError)
    assert str(unknown("metric", "zzz", ["b", "a"])) == "unknown metric 'zzz'. Known: a, b"


def test_taken_names_and_bad_versions_are_refused(registry: Registry[Method]) -> None:
    registry.register("one", Method, version=1)
    with pytest.raises(ValueError, match=r"method name 'one' is taken by .*Method"):
        registry.register("one", Inner, version=2)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="version of method 'two' must be at least 1, got 0"):
        registry.register("two", Method, version=0)
    assert registry.names() == ["one"]


def test_presets_are_overridden_by_parameters(registry: Registry[Method]) -> None:
    registry.register("plain", Method, version=1)
    registry.register("preset", Method, version=1, n_steps=50, inner={"width": 7})
    assert registry.get("plain") == Method()
    assert registry.get("preset") == Method(n_steps=50, inner=Inner(width=7))
    assert registry.get("preset", n_steps=3, label="x") == Method(n_steps=3, label="x", inner=Inner(width=7))
    with pytest.raises(ValueError, match=r"method 'preset': unknown parameter 'n_step'; did you mean 'n_steps'\?"):
        registry.get("preset", n_step=3)


def test_nested_tables_update_the_default_of_their_field() -> None:
    assert configure(Method, {"inner": {"width": 3}}) == Method(inner=Inner(width=3))
    assert configure(Method, {"made": {"rate": 1}}) == Method(made=Inner(width=8, rate=1.0))
    assert configure(Method, {"inner": Inner(width=2)}) == Method(inner=Inner(width=2))
    with pytest.raises(ValueError, match="unknown parameter 'depth'"):
        configure(Method, {"inner": {"depth": 3}})
    with pytest.raises(ValueError, match="width must be at least 1, got 0"):
        configure(Method, {"inner": {"width": 0}})
    with pytest.raises(ValueError, match="inner must be a table of parameters, got 3"):
        configure(Method, {"inner": 3})


@pytest.mark.parametrize(
    ("name", "given", "taken"),
    [
        ("step_size", 1, 1.0),
        ("step_size", 0.5, 0.5),
        ("n_steps", 9, 9),
        ("mode", "long", "long"),
        ("robust", True, True),
        ("limit", None, None),
        ("limit", 2, 2.0),
        ("levels", [3, 4.5], (3.0, 4.5)),
    ],
)
def test_values_take_the_type_of_their_field(name: str, given: object, taken: object) -> None:
    value = getattr(configure(Method, {name: given}), name)
    assert value == taken
    assert type(value) is type(taken)


@pytest.mark.parametrize(
    ("name", "given", "rule"),
    [
        ("step_size", "0.1", "must be float, got '0.1'"),
        ("step_size", True, "must be float, got True"),
        ("n_steps", 1.0, r"must be int, got 1\.0"),
        ("n_steps", True, "must be int, got True"),
        ("mode", "longer", "must be one of 'restart', 'long', got 'longer'"),
        ("robust", 1, "must be bool, got 1"),
        ("label", 3, "must be str, got 3"),
        ("limit", "none", r"must be float \| None, got 'none'"),
        ("levels", 3.0, r"must be .*, got 3\.0"),
        ("levels", ["a"], "must be float, got 'a'"),
    ],
)
def test_wrong_types_name_field_rule_and_value(name: str, given: object, rule: str) -> None:
    with pytest.raises(ValueError, match=f"{name} {rule}"):
        configure(Method, {name: given})


def test_plain_functions_are_called_with_their_parameters() -> None:
    assert configure(lambda width: width + 1, {"width": 2}) == 3


PLUGIN = '''"""A plug-in."""
from dataclasses import dataclass
from samplerbench.samplers import register_sampler

COUNT = []

@register_sampler("{name}", version=2)
@dataclass(frozen=True)
class Mine:
    """Mine, in one line."""

    n_steps: int = 4
'''


@pytest.fixture
def forget_plugins() -> Iterator[None]:
    """What a plug-in registers stays for the process: take it back after the test."""
    from samplerbench.samplers.base import SAMPLERS

    SAMPLERS.names()  # all that the package defines stays
    entries, modules = dict(SAMPLERS._entries), set(sys.modules)
    yield
    SAMPLERS._entries.clear()
    SAMPLERS._entries.update(entries)
    for name in set(sys.modules) - modules:
        if name.startswith(PLUGIN_PREFIX):
            del sys.modules[name]


@pytest.mark.usefixtures("forget_plugins")
def test_plugin_file_is_loaded_once_and_hashed(tmp_path: Path) -> None:
    from samplerbench import samplers

    path = tmp_path / "mine.py"
    path.write_text(PLUGIN.format(name="mine_of_a_file"))
    digest = load_plugin(path)
    assert digest == hashlib.sha256(path.read_bytes()).hexdigest()
    module = sys.modules[PLUGIN_PREFIX + digest]
    assert load_plugin(path) == digest  # a second import would find its name taken
    copy = tmp_path / "copy.py"
    copy.write_bytes(path.read_bytes())
    assert load_plugin(copy) == digest
    assert sys.modules[PLUGIN_PREFIX + digest] is module
    entry = samplers.entry("mine_of_a_file")
    assert (entry.version, entry.summary, entry.plugin_hash) == (2, "Mine, in one line.", digest)
    assert samplers.get("mine_of_a_file", n_steps=9).n_steps == 9  # type: ignore[attr-defined]


@pytest.mark.usefixtures("forget_plugins")
@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("import nowhere_to_be_found\n", "ModuleNotFoundError: No module named 'nowhere_to_be_found'"),
        ("1 / 0\n", "ZeroDivisionError"),
        ("def broken(:\n", "SyntaxError"),
        (PLUGIN.format(name="mala"), "ValueError: sampler name 'mala' is taken by samplerbench.samplers.mala.MALA"),
    ],
)
def test_plugin_that_cannot_be_imported_carries_the_cause(tmp_path: Path, text: str, cause: str) -> None:
    from samplerbench import samplers

    assert "mala" in samplers.names()
    path = tmp_path / "broken.py"
    path.write_text(text)
    for _ in range(2):  # a failed import leaves nothing behind that would hide the error the second time
        with pytest.raises(ValueError, match=rf"plug-in .*broken\.py cannot be imported: {cause}"):
            load_plugin(path)


def test_plugin_files_must_exist_and_be_python(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        load_plugin(tmp_path / "absent.py")
    text = tmp_path / "notes.txt"
    text.write_text("x = 1\n")
    with pytest.raises(ValueError, match=r"notes\.txt is not a Python file"):
        load_plugin(text)


def test_entry_points_of_installed_packages_are_found(tmp_path: Path, plugin: Path) -> None:
    (tmp_path / "somebodys.py").write_text(plugin.read_text())
    metadata = tmp_path / "somebodys-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: somebodys\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text("[samplerbench.targets]\nmine = somebodys\n")
    code = "from samplerbench import targets; print('plain_normal' in targets.names())"
    outside = {**os.environ, "PYTHONPATH": str(tmp_path)}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=outside, cwd=tmp_path)
    assert done.stdout.strip() == "True"


def test_a_table_that_a_preset_states_is_updated_and_not_replaced() -> None:
    config: Any = samplers.get("dft_plain_noise", noise={"level": 0.1})
    assert (config.noise.level, config.noise.antithetic) == (0.1, False)
    assert samplers.get("dft_plain_noise") == samplers.get("dft", noise={"antithetic": False})
