"""Plans, runs, evaluations and leaderboards. Nothing is imported before it is asked for."""

from typing import Any

_EXPORTS = {
    "build_leaderboard": "leaderboard",
    "evaluate_store": "evaluate",
    "run_suite": "engine",
}


def __getattr__(name: str) -> Any:
    if name in _EXPORTS:
        from importlib import import_module

        return getattr(import_module(f".{_EXPORTS[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
