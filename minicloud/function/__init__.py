"""The slice of functions.

`minicloud.function` is the SDK's decorator too (client/deploy.py). Where this package is imported, Python puts it in
the decorator's place: then it does the same when it is called.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any


class _Decorator(ModuleType):
    def __call__(self, *args: Any, **options: Any) -> Any:
        from minicloud.client.deploy import function

        return function(*args, **options)


sys.modules[__name__].__class__ = _Decorator
