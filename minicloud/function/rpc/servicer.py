"""FunctionService on the wire: translation, no decisions."""

from __future__ import annotations

from minicloud.function.rpc.calling import CallingRpc
from minicloud.function.rpc.functions import FunctionRpc
from minicloud.function.rpc.triggers import TriggerRpc
from minicloud.wire import function_pb2 as wire

DESCRIPTOR = wire.DESCRIPTOR.services_by_name["FunctionService"]


class FunctionServicer(FunctionRpc, CallingRpc, TriggerRpc):
    """For `rpc.door.door(FunctionServicer(service, page_secret, url_of), DESCRIPTOR, entry)`."""
