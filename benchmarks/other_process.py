"""The same computation in another process, where nothing of this one is left but files and names."""

import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from pathlib import Path
from typing import ParamSpec, TypeVar

import torch

from ..targets.registry import UnknownNameError, load_plugin
from .contract import BrokenRule, DoesNotApply

P = ParamSpec("P")
T = TypeVar("T")


def in_another_process(plugins: Sequence[str], function: Callable[P, T], *arguments: P.args, **keywords: P.kwargs) -> T:
    """What a module's function returns in a process of its own, with one thread and hashes salted anew.

    Args:
        plugins: files to load there first.
        function, arguments, keywords: what can be pickled; tensors go as NumPy arrays.
    Raises:
        BrokenRule: if that process dies.
        DoesNotApply: if a name is registered in this process alone.
    """
    with _own_hashes(), ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        try:
            pool.submit(_prepare, list(plugins)).result()
            return pool.submit(function, *arguments, **keywords).result()
        except UnknownNameError as error:
            raise DoesNotApply("only this process knows the name: give its file as --plugin") from error
        except BrokenProcessPool as error:
            raise BrokenRule("another process must compute the same, it died (killed, or out of memory)") from error


def _prepare(plugins: Sequence[str]) -> None:
    torch.set_num_threads(1)
    for plugin in plugins:
        load_plugin(Path(plugin))


@contextmanager
def _own_hashes() -> Iterator[None]:
    """Processes that are started inside salt their hashes by themselves, even where this one was given a salt."""
    before = os.environ.get("PYTHONHASHSEED")
    os.environ["PYTHONHASHSEED"] = "random"
    try:
        yield
    finally:
        del os.environ["PYTHONHASHSEED"]
        if before is not None:
            os.environ["PYTHONHASHSEED"] = before
