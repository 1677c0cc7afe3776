"""``pytest --benchmark``: plain pytest runs the tests and skips the measured cases; with it both run."""

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.getgroup("benchmark").addoption(
        "--benchmark", action="store_true", help="Run the measured cases too (plain pytest skips them)."
    )


def pytest_configure(config: pytest.Config) -> None:
    # runs before pytest-benchmark reads its options (its own hook asks to be last)
    measured = config.getoption("--benchmark") or config.getoption("benchmark_only", default=False)
    if not measured:
        config.option.benchmark_skip = True
