"""Metrics: pure functions of draws and truth. ``names()`` lists them, ``get(name)`` returns one."""

import lazy_loader

# the names and their modules stand in __init__.pyi, where type checkers read them too
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
