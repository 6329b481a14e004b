"""What can be changed about an instance: its attributes, metadata options, credits, profile, monitoring."""

from __future__ import annotations

import base64
from typing import Any

from minicloud.aws.call import Call, only, refused
from minicloud.base.errors import (
    IncorrectState,
    InvalidParameterCombination,
    InvalidParameterValue,
    MissingParameter,
    NotFound,
)
from minicloud.compute import commands, instances, security
from minicloud.compute.aws import shown
from minicloud.compute.aws.base import Noun, Params, Result, named_in, would_have
from minicloud.compute.aws.instances import instance_of
from minicloud.compute.catalog import Catalog
from minicloud.compute.model import Instance

_ASSOCIATION = "iip-assoc-"
# Attribute name -> the member of ModifyInstanceAttribute that says the same.
_MEMBERS = {
    "instanceType": "InstanceType",
    "userData": "UserData",
    "disableApiTermination": "DisableApiTermination",
    "disableApiStop": "DisableApiStop",
    "instanceInitiatedShutdownBehavior": "InstanceInitiatedShutdownBehavior",
    "sourceDestCheck": "SourceDestCheck",
    "ebsOptimized": "EbsOptimized",
}


class AttributeDoor(Noun):
    async def DescribeInstanceAttribute(self, params: Params, call: Call) -> Result:
        only(params, call, "InstanceId", "Attribute", "DryRun")
        return await self._shown(params, lambda: self._attribute(params, call))

    def _attribute(self, params: Params, call: Call) -> Result:
        one, name = instance_of(self._state, params, call), params["Attribute"]
        data = base64.b64encode(one.user_data.encode()).decode()
        values: dict[str, tuple[str, Any]] = {
            "instanceType": ("InstanceType", {"Value": one.type}),
            "kernel": ("KernelId", {}),
            "ramdisk": ("RamdiskId", {}),
            "userData": ("UserData", {"Value": data} if data else {}),
            "disableApiTermination": ("DisableApiTermination", {"Value": one.termination_protection}),
            "disableApiStop": ("DisableApiStop", {"Value": one.stop_protection}),
            "instanceInitiatedShutdownBehavior": (
                "InstanceInitiatedShutdownBehavior",
                {"Value": one.shutdown_behavior},
            ),
            "rootDeviceName": ("RootDeviceName", {"Value": shown.root_device(one.image_id)}),
            "blockDeviceMapping": ("BlockDeviceMappings", shown.devices(one)),
            "productCodes": ("ProductCodes", []),
            "sourceDestCheck": ("SourceDestCheck", {"Value": one.echo.get("SourceDestCheck", True)}),
            "groupSet": ("Groups", security.named(self._state, one)),
            "ebsOptimized": ("EbsOptimized", {"Value": bool(one.echo.get("EbsOptimized"))}),
            "enaSupport": ("EnaSupport", {"Value": True}),
            "sriovNetSupport": ("SriovNetSupport", {}),
            "enclaveOptions": ("EnclaveOptions", {"Enabled": False}),
        }
        if name not in values:
            raise InvalidParameterValue(
                f"Value ({name[:64]}) for parameter attribute is invalid. Unknown attribute.", field="Attribute"
            )
        member, value = values[name]
        return {"InstanceId": one.id, member: value}

    async def ModifyInstanceAttribute(self, params: Params, call: Call) -> Result:
        """SourceDestCheck and EbsOptimized are said back and change nothing."""
        members = tuple(_MEMBERS.values())
        only(params, call, "InstanceId", "DryRun", "Attribute", "Value", "Groups", "BlockDeviceMappings", *members)
        given = {name: params[name] for name in (*members, "Groups") if name in params}
        if attribute := params.get("Attribute"):
            if attribute not in _MEMBERS:
                raise refused(f"Attribute {attribute}", call)
            given[_MEMBERS[attribute]] = {"Value": _typed(params.get("Value", ""), _MEMBERS[attribute])}
        for mapping in params.get("BlockDeviceMappings", ()):
            if mapping.get("Ebs", {}).get("DeleteOnTermination") is not True:
                raise refused("BlockDeviceMappings", call, "A root disk ends with its instance.")
        if len(given) > 1:
            raise InvalidParameterCombination("Fields for multiple attribute types specified")
        if not given and not params.get("BlockDeviceMappings"):
            raise MissingParameter("No attributes specified.")
        await self._modify(params, call, **self._changes(given, call))
        return {}

    def _changes(self, given: dict[str, Any], call: Call) -> dict[str, Any]:
        for name, value in given.items():
            if name == "Groups":
                security.check_all(self._state, call.caller.scope, value)
                return {"security_groups": tuple(dict.fromkeys(value))}
            text = value.get("Value")
            if name == "UserData":
                return {"user_data": _decoded(text or b"")}
            if name in ("SourceDestCheck", "EbsOptimized"):
                return {"echo": {name: bool(text)}}
            return {
                {
                    "InstanceType": "instance_type",
                    "DisableApiTermination": "termination_protection",
                    "DisableApiStop": "stop_protection",
                    "InstanceInitiatedShutdownBehavior": "shutdown_behavior",
                }[name]: text
            }
        return {}

    async def _modify(self, params: Params, call: Call, **changes: Any) -> Instance:
        instance_id = params.get("InstanceId", "")
        command = commands.ModifyInstance(call.caller.scope, instance_id, **changes)
        after: Instance = await self._submit(command, params)
        self._service.push_options(after)
        return after

    async def ResetInstanceAttribute(self, params: Params, call: Call) -> Result:
        only(params, call, "InstanceId", "Attribute", "DryRun")
        if params["Attribute"] != "sourceDestCheck":
            raise refused(f"Attribute {params['Attribute']}", call)
        await self._modify(params, call, echo={"SourceDestCheck": True})
        return {}

    async def ModifyInstanceMetadataOptions(self, params: Params, call: Call) -> Result:
        """Tags in metadata are always on, IPv6 is always off; the hop limit is said back."""
        only(
            params, call, "InstanceId", "DryRun", "HttpTokens", "HttpEndpoint", "HttpPutResponseHopLimit",
            "HttpProtocolIpv6", "InstanceMetadataTags",
        )  # fmt: skip
        so = {"HttpProtocolIpv6": "disabled", "InstanceMetadataTags": "enabled"}
        for name, value in so.items():
            if params.get(name, value) != value:
                raise refused(name, call, f"It is always '{value}'.")
        hops = params.get("HttpPutResponseHopLimit")
        if hops is not None and not 1 <= hops <= 64:
            raise InvalidParameterValue("HttpPutResponseHopLimit must be between 1 and 64")
        after = await self._modify(
            params,
            call,
            http_tokens=params.get("HttpTokens"),
            http_endpoint=params.get("HttpEndpoint"),
            echo=None if hops is None else {"HttpPutResponseHopLimit": hops},
        )
        return {"InstanceId": after.id, "InstanceMetadataOptions": shown.metadata_options(after)}

    async def ModifyInstanceMaintenanceOptions(self, params: Params, call: Call) -> Result:
        only(params, call, "InstanceId", "DryRun", "AutoRecovery", "RebootMigration")
        if params.get("AutoRecovery", "default") != "default" or params.get("RebootMigration", "default") != "default":
            raise refused("AutoRecovery", call, "What ran on a host that comes back is started again.")
        one = await self._shown(params, lambda: instance_of(self._state, params, call))
        return {"InstanceId": one.id, "AutoRecovery": "default", "RebootMigration": "default"}

    # --- monitoring
    async def MonitorInstances(self, params: Params, call: Call) -> Result:
        """Metrics every ten seconds."""
        return await self._monitor(params, call, on=True)

    async def UnmonitorInstances(self, params: Params, call: Call) -> Result:
        return await self._monitor(params, call, on=False)

    async def _monitor(self, params: Params, call: Call, on: bool) -> Result:
        only(params, call, "InstanceIds", "DryRun")
        found = await self._shown(
            params, lambda: instances.find_all(self._state, call.caller.scope, params["InstanceIds"])
        )
        for one in found:
            await self._modify({"InstanceId": one.id}, call, monitoring=on)
        state = {"State": "enabled" if on else "disabled"}
        return {"InstanceMonitorings": [{"InstanceId": one.id, "Monitoring": state} for one in found]}

    # --- credits of burstable types

    async def DescribeInstanceCreditSpecifications(self, params: Params, call: Call) -> Result:
        only(params, call, "InstanceIds", "Filters", "NextToken", "MaxResults", "DryRun")
        return await self._shown(params, lambda: self._credits(params, call))

    def _credits(self, params: Params, call: Call) -> Result:
        scope = call.caller.scope
        found = named_in(params, "InstanceIds", lambda one: instances.find(self._state, scope, one, "InstanceIds"))
        if found is None:
            every = (self._state.instances[key] for key in self._state.page(Instance.kind, scope))
            found = [one for one in every if one.cpu_credits == "unlimited"]
        for one in found:
            _check_burstable(one)
        fields = {"instance-id": lambda one: one.id}
        some, result = self._page(call, params, ((one.id, one) for one in found), fields)
        shown_ = [{"InstanceId": one.id, "CpuCredits": one.cpu_credits or "standard"} for one in some]
        return {**result, "InstanceCreditSpecifications": shown_}

    async def ModifyInstanceCreditSpecification(self, params: Params, call: Call) -> Result:
        only(params, call, "ClientToken", "DryRun", "InstanceCreditSpecifications")
        done, failed = [], []
        for given in params["InstanceCreditSpecifications"]:
            instance_id = given.get("InstanceId", "")
            try:
                _check_burstable(instances.find(self._state, call.caller.scope, instance_id, "InstanceId"))
                await self._modify({**params, "InstanceId": instance_id}, call, cpu_credits=given.get("CpuCredits", ""))
                done.append({"InstanceId": instance_id})
            except (NotFound, IncorrectState, InvalidParameterValue, InvalidParameterCombination) as error:
                failed.append({"InstanceId": instance_id, "Error": {"Code": error.code, "Message": error.message}})
        if params.get("DryRun"):
            would_have()
        return {
            "SuccessfulInstanceCreditSpecifications": done,
            "UnsuccessfulInstanceCreditSpecifications": failed,
        }

    # --- instance profiles

    async def AssociateIamInstanceProfile(self, params: Params, call: Call) -> Result:
        """Guests find the role's credentials in their metadata service."""
        only(params, call, "IamInstanceProfile", "InstanceId")
        one = await self._service.shown(lambda: instance_of(self._state, params, call))
        if one.profile:
            raise IncorrectState(
                f"There is an existing association for instance {one.id}", code="IncorrectState", field="InstanceId"
            )
        return await self._associate(one.id, params, call)

    async def _associate(self, instance_id: str, params: Params, call: Call) -> Result:
        given = params["IamInstanceProfile"]
        text = given.get("Arn") or given.get("Name") or ""
        arn, profile_id = self._ports.profile_of(call.caller.scope.account, text)
        after = await self._modify({"InstanceId": instance_id}, call, profile=arn)
        return {"IamInstanceProfileAssociation": _association(after, "associating", profile_id)}

    async def DescribeIamInstanceProfileAssociations(self, params: Params, call: Call) -> Result:
        only(params, call, "AssociationIds", "Filters", "NextToken", "MaxResults")
        return await self._service.shown(lambda: self._associations(params, call))

    def _associations(self, params: Params, call: Call) -> Result:
        every = (self._state.instances[key] for key in self._state.page(Instance.kind, call.caller.scope))
        found = named_in(params, "AssociationIds", lambda one: self._associated(one, call))
        if found is None:
            found = [one for one in every if one.profile and one.state != "terminated"]
        fields = {"instance-id": lambda one: one.id, "state": lambda one: "associated"}
        some, result = self._page(call, params, ((one.id, one) for one in found), fields)
        return {**result, "IamInstanceProfileAssociations": [self._association(one, "associated") for one in some]}

    def _association(self, one: Instance, state: str) -> Result:
        """A profile that was deleted meanwhile has no id any more."""
        try:
            profile_id = self._ports.profile_of(one.account, one.profile)[1]
        except NotFound:
            profile_id = ""
        return _association(one, state, profile_id)

    async def DisassociateIamInstanceProfile(self, params: Params, call: Call) -> Result:
        only(params, call, "AssociationId")
        one = await self._service.shown(lambda: self._associated(params["AssociationId"], call))
        shown_ = self._association(one, "disassociating")
        await self._modify({"InstanceId": one.id}, call, profile="")
        return {"IamInstanceProfileAssociation": shown_}

    async def ReplaceIamInstanceProfileAssociation(self, params: Params, call: Call) -> Result:
        only(params, call, "IamInstanceProfile", "AssociationId")
        one = await self._service.shown(lambda: self._associated(params["AssociationId"], call))
        return await self._associate(one.id, params, call)

    def _associated(self, association_id: str, call: Call) -> Instance:
        one = self._state.instances.get("i-" + association_id.removeprefix(_ASSOCIATION))
        if one is None or one.scope != call.caller.scope or not one.profile:
            raise NotFound(
                f"An invalid association-id of '{association_id[:64]}' was given",
                code="InvalidAssociationID.NotFound",
                field="AssociationId",
            )
        return one


def _association(one: Instance, state: str, profile_id: str) -> Result:
    return {
        "AssociationId": _ASSOCIATION + one.id.partition("-")[2],
        "InstanceId": one.id,
        "IamInstanceProfile": {"Arn": one.profile, "Id": profile_id},
        "State": state,
    }


def _check_burstable(one: Instance) -> None:
    if not Catalog.load().get(one.type).burstable:
        raise InvalidParameterValue(
            f"The instance type '{one.type}' of '{one.id}' is not a burstable performance one",
            code="InstanceCreditSpecification.NotSupported",
            field="InstanceIds",
        )


def _typed(text: str, member: str) -> Any:
    """The plain Value of an attribute that is asked for by its name."""
    if member in ("DisableApiTermination", "DisableApiStop", "SourceDestCheck", "EbsOptimized"):
        if text.lower() not in ("true", "false"):
            raise InvalidParameterValue(f"'{text[:32]}' is neither true nor false", field="Value")
        return text.lower() == "true"
    if member == "UserData":
        from minicloud.compute.aws.launch import user_data

        return user_data(text).encode()
    return text


def _decoded(raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise InvalidParameterValue("user data must be text (UTF-8)", code="InvalidUserData.Malformed") from None
