"""``pytest --benchmark``: plain pytest runs the tests and skips the measured cases; with it both run.

``--against PATH`` adds a gate: benchmarks/test_regression.py runs that leaderboard's suite and compares.
"""

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("benchmark")
    group.addoption("--benchmark", action="store_true", help="Run the measured cases too (plain pytest skips them).")
    group.addoption(
        "--against", metavar="PATH", help="A store or a leaderboard's folder: fail if a suite run now is worse."
    )
    group.addoption("--against-suite", metavar="NAME", help="Suite or TOML file; default the one that PATH names.")
    group.addoption("--against-seeds", metavar="N", type=int, help="Seeds to run, at least 2; default those of PATH.")


def pytest_configure(config: pytest.Config) -> None:
    # runs before pytest-benchmark reads its options (its own hook asks to be last)
    measured = config.getoption("--benchmark") or config.getoption("benchmark_only", default=False)
    if not measured:
        config.option.benchmark_skip = True
