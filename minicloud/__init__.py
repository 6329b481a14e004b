"""minicloud: a cloud you can hold in one hand.

    from minicloud import Client, AsyncClient, function

Nothing heavy is imported before a name is used: neither gRPC nor Ray.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from minicloud.compiled import offer

if TYPE_CHECKING:
    from minicloud.client import AsyncClient, Client
    from minicloud.client.deploy import function

__version__ = "0.1.0"
__all__ = ["AsyncClient", "Client", "__version__", "function"]

offer()


def __getattr__(name: str) -> object:
    if name in ("AsyncClient", "Client"):
        import minicloud.client

        return getattr(minicloud.client, name)
    if name == "function":
        from minicloud.client.deploy import function

        return function
    raise AttributeError(f"module 'minicloud' has no attribute {name!r}")
