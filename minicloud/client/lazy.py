"""Modules that are imported when first used, so that importing the SDK costs no gRPC (80 ms) and no protobuf.

Use under `if TYPE_CHECKING: import x  else: x = lazy("x")`, so that type checkers see the true module.
"""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import Any


class LazyModule(ModuleType):
    """Stands for a module until an attribute is asked for; then hands over the module's own."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        value = getattr(importlib.import_module(self.__name__), name)
        setattr(self, name, value)
        return value


def lazy(name: str) -> Any:
    return LazyModule(name)
