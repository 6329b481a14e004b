"""IAM as one door: users, roles, and here managed policies and instance profiles."""

from __future__ import annotations

from minicloud.aws.call import Call, only
from minicloud.aws.lists import tag_map
from minicloud.identity.aws.base import (
    LIST,
    Params,
    Result,
    account,
    document,
    under,
)
from minicloud.identity.aws.roles import RoleDoor
from minicloud.identity.aws.simulate import SimulateDoor
from minicloud.identity.aws.users import UserDoor
from minicloud.identity.iam import holders, policies
from minicloud.identity.iam.model import Policy, Profile, Role, User
from minicloud.identity.iam.tables import AWS_POLICY


class Iam(RoleDoor, UserDoor, SimulateDoor):
    """For `Door("iam", Iam(identity))`."""

    async def CreatePolicy(self, params: Params, call: Call) -> Result:
        made = await self._ask(
            policies.create_policy,
            account(call),
            params["PolicyName"],
            params.get("Path", "/"),
            params["PolicyDocument"],
            params.get("Description", ""),
            tag_map(params.get("Tags", ())),
        )
        return {"Policy": self._policy(made)}

    async def _find_policy(self, params: Params, call: Call) -> Policy:
        return await self._shown(lambda: self._iam.policy(account(call), params["PolicyArn"]))

    async def GetPolicy(self, params: Params, call: Call) -> Result:
        """Of the account; AWS's own are known by name alone."""
        return {"Policy": self._policy(await self._find_policy(params, call))}

    async def ListPolicies(self, params: Params, call: Call) -> Result:
        """Of the account; AWS's own are known by name alone, so Scope AWS is empty."""
        only(params, call, "Scope", "OnlyAttached", "PathPrefix", "PolicyUsageFilter", *LIST)
        every = await self._shown(lambda: self._iam.all_of(Policy, account(call)))
        found = under(every, params, lambda one: one.path)
        if params.get("Scope") == "AWS" or params.get("PolicyUsageFilter") == "PermissionsBoundary":
            found = []
        if params.get("OnlyAttached"):
            found = [one for one in found if self._iam.attachments(one)]
        some, end = self._page(call, params, {one.name: one for one in found})
        return {"Policies": [self._policy(one) for one in some], **end}

    async def DeletePolicy(self, params: Params, call: Call) -> Result:
        await self._ask(policies.delete_policy, account(call), params["PolicyArn"])
        return {}

    async def CreatePolicyVersion(self, params: Params, call: Call) -> Result:
        policy, version = await self._ask(
            policies.create_version,
            account(call),
            params["PolicyArn"],
            params["PolicyDocument"],
            bool(params.get("SetAsDefault")),
        )
        shown = _version(policy, version)
        del shown["Document"]
        return {"PolicyVersion": shown}

    async def GetPolicyVersion(self, params: Params, call: Call) -> Result:
        policy = await self._find_policy(params, call)
        policies.check_version(policy, params["VersionId"])
        return {"PolicyVersion": _version(policy, params["VersionId"])}

    async def ListPolicyVersions(self, params: Params, call: Call) -> Result:
        policy = await self._find_policy(params, call)
        keyed = {f"{int(one[1:]):08d}": _version(policy, one) for one in policy.versions}
        some, end = self._page(call, params, keyed)
        for one in some:
            del one["Document"]
        return {"Versions": some[::-1], **end}

    async def DeletePolicyVersion(self, params: Params, call: Call) -> Result:
        await self._ask(policies.delete_version, account(call), params["PolicyArn"], params["VersionId"])
        return {}

    async def SetDefaultPolicyVersion(self, params: Params, call: Call) -> Result:
        await self._ask(policies.set_default, account(call), params["PolicyArn"], params["VersionId"])
        return {}

    async def ListEntitiesForPolicy(self, params: Params, call: Call) -> Result:
        """There are no groups, and nobody has a permissions boundary."""
        arn, wanted = params["PolicyArn"], params.get("EntityFilter", "")
        if not AWS_POLICY.match(arn):
            await self._find_policy(params, call)
        found = await self._shown(lambda: holders.holders_of(self._iam, account(call), arn))
        kinds = {"": ("role", "user"), "Role": ("role",), "User": ("user",)}.get(wanted, ())
        if params.get("PolicyUsageFilter") == "PermissionsBoundary":
            kinds = ()
        named = {
            f"{one.word} {one.name}": one for one in under(found, params, lambda one: one.path) if one.word in kinds
        }
        some, end = self._page(call, params, named)
        return {
            "PolicyGroups": [],
            "PolicyRoles": [{"RoleName": one.name, "RoleId": one.id} for one in some if isinstance(one, Role)],
            "PolicyUsers": [{"UserName": one.name, "UserId": one.id} for one in some if isinstance(one, User)],
            **end,
        }

    async def TagPolicy(self, params: Params, call: Call) -> Result:
        return await self._retag(Policy, (await self._find_policy(params, call)).name, params, call)

    async def UntagPolicy(self, params: Params, call: Call) -> Result:
        return await self._retag(Policy, (await self._find_policy(params, call)).name, params, call)

    async def ListPolicyTags(self, params: Params, call: Call) -> Result:
        return self._tags_of(await self._find_policy(params, call), params, call)

    # --- instance profiles

    async def CreateInstanceProfile(self, params: Params, call: Call) -> Result:
        made = await self._ask(
            policies.create_profile,
            account(call),
            params["InstanceProfileName"],
            params.get("Path", "/"),
            tag_map(params.get("Tags", ())),
        )
        return {"InstanceProfile": self._profile(made)}

    async def _find_profile(self, params: Params, call: Call) -> Profile:
        return await self._shown(lambda: self._iam.find(Profile, account(call), params["InstanceProfileName"]))

    async def GetInstanceProfile(self, params: Params, call: Call) -> Result:
        return {"InstanceProfile": self._profile(await self._find_profile(params, call))}

    async def ListInstanceProfiles(self, params: Params, call: Call) -> Result:
        every = await self._shown(lambda: self._iam.all_of(Profile, account(call)))
        some, end = self._page(call, params, {one.name: one for one in under(every, params, lambda one: one.path)})
        return {"InstanceProfiles": [self._profile(one) for one in some], **end}

    async def DeleteInstanceProfile(self, params: Params, call: Call) -> Result:
        await self._ask(policies.delete_profile, account(call), params["InstanceProfileName"])
        return {}

    async def AddRoleToInstanceProfile(self, params: Params, call: Call) -> Result:
        await self._ask(policies.add_role, account(call), params["InstanceProfileName"], params["RoleName"])
        return {}

    async def RemoveRoleFromInstanceProfile(self, params: Params, call: Call) -> Result:
        await self._ask(policies.remove_role, account(call), params["InstanceProfileName"], params["RoleName"])
        return {}

    async def TagInstanceProfile(self, params: Params, call: Call) -> Result:
        return await self._retag(Profile, params["InstanceProfileName"], params, call)

    async def UntagInstanceProfile(self, params: Params, call: Call) -> Result:
        return await self._retag(Profile, params["InstanceProfileName"], params, call)

    async def ListInstanceProfileTags(self, params: Params, call: Call) -> Result:
        return self._tags_of(await self._find_profile(params, call), params, call)


def _version(policy: Policy, version: str) -> Result:
    one = policy.versions[version]
    return {
        "Document": document(one["document"]),
        "VersionId": version,
        "IsDefaultVersion": version == policy.default,
        "CreateDate": one["created"],
    }
