"""The distribution holds every package, its data, and nothing that belongs to the tests."""

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
    forbidden = {
        "targets": ("samplers", "metrics", "benchmarks"),
        "samplers": ("metrics", "benchmarks"),
        "metrics": ("samplers", "benchmarks"),
    }
    for folder, above in forbidden.items():
        for path in (ROOT / folder).rglob("*.py"):
            text = path.read_text()
            for name in above:
                assert f"..{name}" not in text, f"{path} imports {name}"
                assert f"samplerbench.{name}" not in text, f"{path} imports {name}"


def test_readme_commands_and_ci_agree() -> None:
    readme, ci = (ROOT / "README.md").read_text(), (ROOT / ".ci" / "run").read_text()
    assert "python3 -m venv .venv && .venv/bin/pip install tox && .venv/bin/tox -qq -e quick" in readme
    assert "python3 -m venv .venv && .venv/bin/pip install tox && .venv/bin/tox -qq -e py" in readme
    assert "tox -qq -e py" in ci
