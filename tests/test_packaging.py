"""The distribution holds every package, its data, and nothing that belongs to the tests."""

import ast
import importlib
import tomllib
from pathlib import Path

ROOT = Path(__file__).parent.parent
FOLDERS = ("targets", "samplers", "metrics", "benchmarks")


def configuration() -> dict[str, object]:
    return dict(tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"])


def test_every_package_is_listed() -> None:
    found = {
        "samplerbench." + ".".join(path.parent.relative_to(ROOT).parts)
        for folder in FOLDERS
        for path in (ROOT / folder).rglob("__init__.py")
    }
    assert set(configuration()["packages"]) == found  # type: ignore[call-overload]


def test_no_folder_shadows_the_namespace() -> None:
    assert not (ROOT / "samplerbench").exists()


def test_every_export_exists() -> None:
    for folder in FOLDERS:
        package = importlib.import_module(f"samplerbench.{folder}")
        for name in package.__all__:
            assert getattr(package, name) is not None


def test_the_arrows_point_down() -> None:
    above = {
        "targets": {"samplers", "metrics", "benchmarks"},
        "samplers": {"metrics", "benchmarks"},
        "metrics": {"samplers", "benchmarks"},
    }
    for folder, forbidden in above.items():
        for path in (ROOT / folder).rglob("*.py"):
            assert not imported_folders(path) & forbidden, path


def imported_folders(path: Path) -> set[str]:
    """Folders of this project that a file imports from."""
    package = ("samplerbench", *path.parent.relative_to(ROOT).parts)
    names: list[str] = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            names.append(".".join([*base, *([node.module] if node.module else [])]))
    return {name.split(".")[1] for name in names if name.startswith("samplerbench.")}


def test_readme_commands_and_ci_agree() -> None:
    readme, ci = (ROOT / "README.md").read_text(), (ROOT / ".ci" / "run").read_text()
    assert "python3 -m venv .venv && .venv/bin/pip install tox && .venv/bin/tox -qq -e quick" in readme
    assert "python3 -m venv .venv && .venv/bin/pip install tox && .venv/bin/tox -qq -e py" in readme
    assert "tox -qq -e py" in ci
