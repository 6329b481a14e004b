"""The SDK: `Client` and `AsyncClient`, the same methods in both.

The async classes are written by hand (`aio.py` and one file per group); the sync ones, in `sync/`, are made from them
by `python minicloud/client/generate.py`, run an event loop in a thread of their own, and add nothing.
Answers are frozen dataclasses (`models.py`), errors are the classes of `minicloud.base.errors`.
"""

from __future__ import annotations

from minicloud.client.aio import AsyncClient
from minicloud.client.config import ClientConfig
from minicloud.client.sync.client import Client

__all__ = ["AsyncClient", "Client", "ClientConfig"]
