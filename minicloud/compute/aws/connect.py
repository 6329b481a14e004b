"""EC2 Instance Connect: keys for SSH, which nothing in an instance here listens for."""

from __future__ import annotations

from typing import Any

from minicloud.aws.call import Call, only
from minicloud.base.errors import IncorrectState, InvalidParameterValue, NotFound, UnsupportedOperation
from minicloud.compute.aws.shown import zone
from minicloud.compute.service import ComputeService

Params = dict[str, Any]
Result = dict[str, Any]


class InstanceConnectDoor:
    """For `Door("ec2-instance-connect", ...)`."""

    def __init__(self, service: ComputeService) -> None:
        self._service = service

    async def SendSSHPublicKey(self, params: Params, call: Call) -> Result:
        """Always refused, with the way there is: `minicloud instance connect`. Instances have no SSH server of ours."""
        only(params, call, "InstanceId", "InstanceOSUser", "SSHPublicKey", "AvailabilityZone")
        await self._service.shown(lambda: self._check(params, call))
        raise UnsupportedOperation(
            "A key would be of no use: nobody listens for SSH in an instance; use "
            f"`minicloud instance connect {params['InstanceId']}`.",
            code="ServiceException",
        )

    async def SendSerialConsoleSSHPublicKey(self, params: Params, call: Call) -> Result:
        """Always refused, with the way there is: `minicloud instance console`. There is no serial port."""
        only(params, call, "InstanceId", "SerialPort", "SSHPublicKey")
        await self._service.shown(lambda: self._check(params, call))
        raise UnsupportedOperation(
            "Instances have no serial port; use "
            f"`minicloud instance console {params['InstanceId']}` or `minicloud instance connect`.",
            code="SerialConsoleAccessDisabledException",
        )

    def _check(self, params: Params, call: Call) -> None:
        """Raises what AWS finds first."""
        one = self._service.state.instances.get(params["InstanceId"])
        if one is None or one.scope != call.caller.scope:
            raise NotFound("Instance not found", code="EC2InstanceNotFoundException", field="InstanceId")
        if one.state != "running":
            raise IncorrectState("Instance is not running", code="EC2InstanceStateInvalidException", field="InstanceId")
        if params.get("AvailabilityZone", zone(one)) != zone(one):
            text = f"The instance is in {zone(one)}"
            raise InvalidParameterValue(text, code="InvalidArgsException", field="AvailabilityZone")
