"""Launch templates. A version keeps what it was made of in EC2's words (`aws` in its data), and what a launch reads."""

from __future__ import annotations

import base64
from dataclasses import asdict
from typing import Any

from minicloud.aws.call import Call, only
from minicloud.aws.lists import tag_list
from minicloud.base.errors import (
    CloudError,
    InvalidParameterCombination,
    InvalidParameterValue,
    MissingParameter,
)
from minicloud.compute import commands, templates, vpc
from minicloud.compute.aws.base import Params, Result, named_in, tagged, tags_for
from minicloud.compute.aws.filters import TAGS, Fields
from minicloud.compute.aws.images import resolved
from minicloud.compute.aws.launch import SHARED, LaunchDoor
from minicloud.compute.model import Template, TemplateVersion

AWS = "aws"
_FIELDS: Fields[Template] = {
    TAGS: lambda one: one.tags,
    "launch-template-name": lambda one: one.name,
    "create-time": lambda one: str(one.created),
}


class TemplateDoor(LaunchDoor):
    async def CreateLaunchTemplate(self, params: Params, call: Call) -> Result:
        """What RunInstances would refuse is refused here."""
        only(
            params, call, "LaunchTemplateName", "LaunchTemplateData", "VersionDescription", "TagSpecifications",
            "ClientToken", "DryRun",
        )  # fmt: skip
        command = commands.CreateTemplate(
            call.caller.scope,
            params["LaunchTemplateName"],
            self._data(params["LaunchTemplateData"], call),
            params.get("VersionDescription", ""),
            params.get("ClientToken", ""),
            tags_for(params, "launch-template")["launch-template"],
        )
        template, _ = await self._submit(command, params)
        return {"LaunchTemplate": _template(template, call)}

    def _data(self, given: Params, call: Call) -> dict[str, Any]:
        """What of a LaunchSpec was given, and the request itself."""
        only(given, call, *SHARED)
        spec = asdict(self.spec(given, call))
        kept = {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in spec.items()
            if value is False or value not in ("", None, 0, {}, ())
        }
        return {**kept, AWS: given}

    async def CreateLaunchTemplateVersion(self, params: Params, call: Call) -> Result:
        only(
            params, call, "LaunchTemplateId", "LaunchTemplateName", "SourceVersion", "VersionDescription",
            "LaunchTemplateData", "ClientToken", "DryRun",
        )  # fmt: skip
        given = params["LaunchTemplateData"]
        if source := params.get("SourceVersion"):
            before = templates.find(self._state, call.caller.scope, _named(params), source)
            given = {**as_aws(before.data, call), **given}
        command = commands.CreateTemplateVersion(
            call.caller.scope,
            _named(params),
            self._data(given, call),
            "",
            params.get("VersionDescription", ""),
            params.get("ClientToken", ""),
        )
        template, version = await self._submit(command, params)
        return {"LaunchTemplateVersion": _version(template, version, call)}

    async def DescribeLaunchTemplates(self, params: Params, call: Call) -> Result:
        only(params, call, "LaunchTemplateIds", "LaunchTemplateNames", "Filters", "NextToken", "MaxResults", "DryRun")
        return await self._shown(params, lambda: self._templates(params, call))

    def _templates(self, params: Params, call: Call) -> Result:
        scope = call.caller.scope
        by_id = named_in(params, "LaunchTemplateIds", lambda one: self._find(one, call))
        by_name = named_in(params, "LaunchTemplateNames", lambda one: self._find(one, call))
        if by_id is None and by_name is None:
            by_id = [self._state.templates[key] for key in self._state.page(Template.kind, scope)]
        every = {one.id: one for one in [*(by_id or ()), *(by_name or ())]}
        some, result = self._page(call, params, every.items(), _FIELDS)
        return {**result, "LaunchTemplates": [_template(one, call) for one in some]}

    def _find(self, text: str, call: Call) -> Template:
        """With EC2's code for an id that is not there."""
        try:
            return templates.find_template(self._state, call.caller.scope, text)
        except CloudError as error:
            if text.startswith("lt-") and error.code.endswith("NotFoundException"):
                error.code = "InvalidLaunchTemplateId.NotFound"
            raise

    async def DescribeLaunchTemplateVersions(self, params: Params, call: Call) -> Result:
        only(
            params, call, "LaunchTemplateId", "LaunchTemplateName", "Versions", "MinVersion", "MaxVersion", "Filters",
            "NextToken", "MaxResults", "ResolveAlias", "DryRun",
        )  # fmt: skip
        return await self._shown(params, lambda: self._versions(params, call))

    def _versions(self, params: Params, call: Call) -> Result:
        found = self._chosen(params, call)
        low, high = _number(params, "MinVersion"), _number(params, "MaxVersion")
        keyed = {
            f"{template.id}/{version.version:08d}": (template, version)
            for template, version in found
            if version.version >= low and (not high or version.version <= high)
        }
        fields: Fields[tuple[Template, TemplateVersion]] = {
            "image-id": lambda one: one[1].data.get("image_id", ""),
            "instance-type": lambda one: one[1].data.get("instance_type", ""),
            "is-default-version": lambda one: one[0].default_version == one[1].version,
            "iam-instance-profile": lambda one: one[1].data.get("profile", ""),
        }
        some, result = self._page(call, params, keyed.items(), fields)
        newest_first = sorted(some, key=lambda one: (one[0].id, -one[1].version))
        shown = [_version(*one, call) for one in newest_first]
        if params.get("ResolveAlias"):
            for one in (version["LaunchTemplateData"] for version in shown):
                one |= {"ImageId": resolved(one["ImageId"])} if "ImageId" in one else {}
        return {**result, "LaunchTemplateVersions": shown}

    def _chosen(self, params: Params, call: Call) -> list[tuple[Template, TemplateVersion]]:
        wanted = params.get("Versions", ())
        if params.get("LaunchTemplateId") or params.get("LaunchTemplateName"):
            template = self._find(_named(params), call)
            if wanted:
                versions = [templates.find(self._state, call.caller.scope, template.id, one) for one in wanted]
            else:
                versions = list(templates.versions(self._state, template))
            return [(template, one) for one in versions]
        if not wanted or not set(wanted) <= {"$Default", "$Latest"}:
            raise MissingParameter(
                "A launch template's id or name is needed, unless only $Latest or $Default versions are asked for",
                field="LaunchTemplateId",
            )
        every = [self._state.templates[key] for key in self._state.page(Template.kind, call.caller.scope)]
        return [
            (template, templates.find(self._state, call.caller.scope, template.id, one))
            for template in every
            for one in wanted
        ]

    async def ModifyLaunchTemplate(self, params: Params, call: Call) -> Result:
        only(params, call, "LaunchTemplateId", "LaunchTemplateName", "DefaultVersion", "ClientToken", "DryRun")
        text = params.get("DefaultVersion", "")
        template = self._find(_named(params), call)
        version = templates.find(self._state, call.caller.scope, template.id, text) if text else None
        if version is None:
            raise MissingParameter("The request must contain the parameter SetDefaultVersion", field="DefaultVersion")
        command = commands.SetDefaultVersion(call.caller.scope, template.id, version.version)
        return {"LaunchTemplate": _template(await self._submit(command, params), call)}

    async def DeleteLaunchTemplate(self, params: Params, call: Call) -> Result:
        only(params, call, "LaunchTemplateId", "LaunchTemplateName", "DryRun")
        template = self._find(_named(params), call)
        gone = await self._submit(commands.DeleteTemplate(call.caller.scope, template.id), params)
        return {"LaunchTemplate": _template(gone, call)}

    async def DeleteLaunchTemplateVersions(self, params: Params, call: Call) -> Result:
        only(params, call, "LaunchTemplateId", "LaunchTemplateName", "Versions", "DryRun")
        template, done, failed = self._find(_named(params), call), [], []
        for text in params["Versions"]:
            said: Result = {"LaunchTemplateId": template.id, "LaunchTemplateName": template.name}
            if text.isdigit():
                said["VersionNumber"] = int(text)
            try:
                command = commands.DeleteTemplateVersion(call.caller.scope, template.id, text)
                version = await self._submit(command, params)
                done.append({**said, "VersionNumber": version.version})
            except CloudError as error:
                if error.code == "DryRunOperation":
                    raise
                code = {"InvalidLaunchTemplateId.VersionNotFound": "launchTemplateVersionDoesNotExist"}
                reason = {"Code": code.get(error.code, "unexpectedError"), "Message": error.message}
                failed.append({**said, "ResponseError": reason})
        return {
            "SuccessfullyDeletedLaunchTemplateVersions": done,
            "UnsuccessfullyDeletedLaunchTemplateVersions": failed,
        }

    async def GetLaunchTemplateData(self, params: Params, call: Call) -> Result:
        """What would launch another instance like this one."""
        from minicloud.compute.aws.instances import instance_of

        only(params, call, "InstanceId", "DryRun")
        one = await self._shown(params, lambda: instance_of(self._state, params, call))
        data: dict[str, Any] = {
            "image_id": one.image_id,
            "instance_type": one.type,
            "key_name": one.key_name,
            "user_data": one.user_data,
            "zone": one.zone,
            "group_name": one.group_name,
            "shutdown_behavior": one.shutdown_behavior,
            "http_tokens": one.http_tokens,
            "http_endpoint": one.http_endpoint,
            "cpu_credits": one.cpu_credits,
            "tags": one.tags,
            "security_groups": one.security_groups,
            "profile": one.profile,
        }
        return {"LaunchTemplateData": as_aws({name: value for name, value in data.items() if value}, call)}


def _named(params: Params) -> str:
    """Raises InvalidParameterCombination, MissingParameter."""
    if params.get("LaunchTemplateId") and params.get("LaunchTemplateName"):
        raise InvalidParameterCombination("Either a launch template's id or its name may be given, not both")
    text = params.get("LaunchTemplateId") or params.get("LaunchTemplateName")
    if not text:
        raise MissingParameter("Either a launch template id or a launch template name is needed")
    return str(text)


def _number(params: Params, name: str) -> int:
    """0 where it is not given. Raises InvalidParameterValue."""
    text = params.get(name, "")
    if text and not (text.isascii() and text.isdigit()):
        raise InvalidParameterValue(f"Value ({text[:64]}) for parameter {name} is invalid.", field=name)
    return int(text[:18] or 0)


def as_aws(data: dict[str, Any], call: Call) -> dict[str, Any]:
    """A version's data in EC2's words, whoever made it."""
    if AWS in data:
        return dict(data[AWS])
    plain = {
        "ImageId": data.get("image_id"),
        "InstanceType": data.get("instance_type"),
        "KeyName": data.get("key_name"),
        "DisableApiTermination": data.get("termination_protection"),
        "InstanceInitiatedShutdownBehavior": data.get("shutdown_behavior"),
        "SecurityGroupIds": data.get("security_groups"),
    }
    shown = {name: value for name, value in plain.items() if value is not None}
    if data.get("user_data"):
        shown["UserData"] = base64.b64encode(data["user_data"].encode()).decode()
    zone = data.get("zone", "")
    place = {
        "AvailabilityZone": vpc.shown_zone(zone, call.caller.scope.region) if zone else "",
        "GroupName": data.get("group_name", ""),
    }
    if any(place.values()):
        shown["Placement"] = {name: value for name, value in place.items() if value}
    options = {"HttpTokens": data.get("http_tokens"), "HttpEndpoint": data.get("http_endpoint")}
    if any(options.values()):
        shown["MetadataOptions"] = {name: value for name, value in options.items() if value}
    if data.get("cpu_credits"):
        shown["CreditSpecification"] = {"CpuCredits": data["cpu_credits"]}
    if data.get("profile"):
        shown["IamInstanceProfile"] = {"Arn": data["profile"]}
    if data.get("tags"):
        shown["TagSpecifications"] = [{"ResourceType": "instance", "Tags": tag_list(data["tags"])}]
    return shown


def _by(call: Call) -> str:
    return f"arn:aws:iam::{call.caller.scope.account}:root"


def _template(one: Template, call: Call) -> Result:
    return {
        "LaunchTemplateId": one.id,
        "LaunchTemplateName": one.name,
        "CreateTime": one.created,
        "CreatedBy": _by(call),
        "DefaultVersionNumber": one.default_version,
        "LatestVersionNumber": one.latest_version,
        **tagged(one.tags),
    }


def _version(template: Template, one: TemplateVersion, call: Call) -> Result:
    shown: Result = {
        "LaunchTemplateId": template.id,
        "LaunchTemplateName": template.name,
        "VersionNumber": one.version,
        "CreateTime": one.created,
        "CreatedBy": _by(call),
        "DefaultVersion": one.version == template.default_version,
        "LaunchTemplateData": as_aws(one.data, call),
    }
    if one.description:
        shown["VersionDescription"] = one.description
    return shown
