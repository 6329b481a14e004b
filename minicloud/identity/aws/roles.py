"""IAM's roles, service-linked ones too."""

from __future__ import annotations

import json

from minicloud.aws.call import Call, only
from minicloud.aws.lists import tag_map
from minicloud.base.errors import InvalidParameterValue
from minicloud.identity.aws.base import (
    LIST,
    Params,
    Result,
    account,
    role_of,
    under,
)
from minicloud.identity.aws.holding import HolderDoor
from minicloud.identity.iam import holders
from minicloud.identity.iam.model import Profile, Role
from minicloud.identity.iam.tables import no_such

_SERVICE = ".amazonaws.com"


class RoleDoor(HolderDoor):
    async def CreateRole(self, params: Params, call: Call) -> Result:
        """Kept and returned; what policies allow is not enforced yet. Permissions boundaries are refused."""
        only(params, call, "RoleName", "Path", "AssumeRolePolicyDocument", "Description", "MaxSessionDuration", "Tags")
        made = await self._ask(
            holders.create_role,
            account(call),
            params["RoleName"],
            params.get("Path", "/"),
            params["AssumeRolePolicyDocument"],
            description=params.get("Description", ""),
            session_s_max=params.get("MaxSessionDuration", 3600),
            tags=tag_map(params.get("Tags", ())),
        )
        return {"Role": role_of(made)}

    async def GetRole(self, params: Params, call: Call) -> Result:
        return {"Role": role_of(await self._role(params, call))}

    async def _role(self, params: Params, call: Call) -> Role:
        return await self._shown(lambda: self._iam.find(Role, account(call), params["RoleName"]))

    async def ListRoles(self, params: Params, call: Call) -> Result:
        only(params, call, "PathPrefix", *LIST)
        every = await self._shown(lambda: self._iam.all_of(Role, account(call)))
        some, end = self._page(call, params, {one.name: one for one in under(every, params, lambda one: one.path)})
        return {"Roles": [role_of(one) for one in some], **end}

    async def UpdateRole(self, params: Params, call: Call) -> Result:
        only(params, call, "RoleName", "Description", "MaxSessionDuration")
        changes = {
            "description": params.get("Description"),
            "session_s_max": params.get("MaxSessionDuration"),
        }
        given = {name: value for name, value in changes.items() if value is not None}
        await self._ask(holders.update_role, account(call), params["RoleName"], **given)
        return {}

    async def UpdateRoleDescription(self, params: Params, call: Call) -> Result:
        after = await self._ask(
            holders.update_role, account(call), params["RoleName"], description=params["Description"]
        )
        return {"Role": role_of(after)}

    async def UpdateAssumeRolePolicy(self, params: Params, call: Call) -> Result:
        await self._ask(holders.update_role, account(call), params["RoleName"], trust=params["PolicyDocument"])
        return {}

    async def DeleteRole(self, params: Params, call: Call) -> Result:
        await self._ask(holders.delete_role, account(call), params["RoleName"])
        return {}

    async def ListInstanceProfilesForRole(self, params: Params, call: Call) -> Result:
        role = await self._role(params, call)
        found = {one.name: one for one in self._iam.all_of(Profile, account(call)) if role.name in one.roles}
        some, end = self._page(call, params, found)
        return {"InstanceProfiles": [self._profile(one) for one in some], **end}

    # --- policies

    async def PutRolePolicy(self, params: Params, call: Call) -> Result:
        return await self._put_inline(Role, params, call)

    async def GetRolePolicy(self, params: Params, call: Call) -> Result:
        return await self._inline(Role, params, call)

    async def ListRolePolicies(self, params: Params, call: Call) -> Result:
        return await self._inline_names(Role, params, call)

    async def DeleteRolePolicy(self, params: Params, call: Call) -> Result:
        return await self._delete_inline(Role, params, call)

    async def AttachRolePolicy(self, params: Params, call: Call) -> Result:
        """AWS's own policies are taken by their names, and stand for nothing yet."""
        return await self._attach(Role, params, call)

    async def DetachRolePolicy(self, params: Params, call: Call) -> Result:
        return await self._detach(Role, params, call)

    async def ListAttachedRolePolicies(self, params: Params, call: Call) -> Result:
        return await self._attached(Role, params, call)

    # --- tags

    async def TagRole(self, params: Params, call: Call) -> Result:
        return await self._retag(Role, params["RoleName"], params, call)

    async def UntagRole(self, params: Params, call: Call) -> Result:
        return await self._retag(Role, params["RoleName"], params, call)

    async def ListRoleTags(self, params: Params, call: Call) -> Result:
        return self._tags_of(await self._held(Role, params, call), params, call)

    # --- service-linked roles

    async def CreateServiceLinkedRole(self, params: Params, call: Call) -> Result:
        service = params["AWSServiceName"]
        if not service.endswith(_SERVICE):
            raise InvalidParameterValue(
                f"{service[:128]} is not the name of a service, as autoscaling{_SERVICE}", code="InvalidInput"
            )
        word = "".join(part.capitalize() for part in service.removesuffix(_SERVICE).replace("-", ".").split("."))
        suffix = f"_{params['CustomSuffix']}" if params.get("CustomSuffix") else ""
        name = f"AWSServiceRoleFor{_CALLED.get(service, word)}{suffix}"
        if self._iam.get(Role, account(call), name) is not None:
            raise InvalidParameterValue(
                f"Service role name {name} has been taken in this account, please try a different suffix.",
                code="InvalidInput",
            )
        trust = {
            "Version": "2012-10-17",
            "Statement": [{"Effect": "Allow", "Principal": {"Service": service}, "Action": "sts:AssumeRole"}],
        }
        made = await self._ask(
            holders.create_role,
            account(call),
            name,
            f"/aws-service-role/{service}/",
            json.dumps(trust),
            description=params.get("Description", ""),
            service=service,
        )
        return {"Role": role_of(made)}

    async def DeleteServiceLinkedRole(self, params: Params, call: Call) -> Result:
        role = await self._role(params, call)
        if not role.service:
            raise no_such(f"The role with name {role.name} is not a service-linked role.")
        await self._ask(holders.delete_role, account(call), role.name, linked=True)
        return {"DeletionTaskId": f"task/aws-service-role/{role.service}/{role.name}/{role.id}"}

    async def GetServiceLinkedRoleDeletionStatus(self, params: Params, call: Call) -> Result:
        """Deletion is done when it is answered."""
        parts = params["DeletionTaskId"].split("/")
        if len(parts) != 5 or self._iam.get(Role, account(call), parts[3]) is not None:
            raise no_such(f"The deletion task {params['DeletionTaskId'][:256]} cannot be found.")
        return {"Status": "SUCCEEDED"}


# AWS's own spelling of the services whose role is created most often.
_CALLED = {
    "autoscaling.amazonaws.com": "AutoScaling",
    "elasticloadbalancing.amazonaws.com": "ElasticLoadBalancing",
    "spot.amazonaws.com": "EC2Spot",
    "spotfleet.amazonaws.com": "EC2SpotFleet",
    "ec2fleet.amazonaws.com": "EC2Fleet",
    "replicator.lambda.amazonaws.com": "LambdaReplicator",
}
