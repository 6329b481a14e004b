"""Ray reads how it authenticates once, when it is first imported: so that is said before any test module is."""

from __future__ import annotations

import os

os.environ["RAY_AUTH_MODE"] = "token"
os.environ["RAY_AUTH_TOKEN"] = os.urandom(32).hex()
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
