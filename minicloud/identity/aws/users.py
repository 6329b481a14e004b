"""IAM's users and their access keys."""

from __future__ import annotations

from minicloud.aws.call import Call, only
from minicloud.aws.lists import tag_map
from minicloud.identity import commands as ask
from minicloud.identity.aws.base import (
    Params,
    Result,
    account,
    under,
    user_of,
)
from minicloud.identity.aws.holding import HolderDoor
from minicloud.identity.iam import holders
from minicloud.identity.iam.model import User
from minicloud.identity.iam.tables import no_such
from minicloud.identity.model import AccessKey


class UserDoor(HolderDoor):
    async def CreateUser(self, params: Params, call: Call) -> Result:
        only(params, call, "UserName", "Path", "Tags")
        made = await self._ask(
            holders.create_user,
            account(call),
            params["UserName"],
            params.get("Path", "/"),
            tag_map(params.get("Tags", ())),
        )
        return {"User": user_of(made)}

    async def GetUser(self, params: Params, call: Call) -> Result:
        """Without a name: who asks; the account's own key is `root`, as in IAM."""
        name = params.get("UserName") or self._own(call)
        if name:
            return {"User": user_of(await self._user(name, call))}
        owner = account(call)
        root = {"Path": "/", "UserName": "root", "UserId": owner, "Arn": f"arn:aws:iam::{owner}:root"}
        return {"User": {**root, "CreateDate": self._identity.machine.account(owner).created_time}}

    async def _user(self, name: str, call: Call) -> User:
        return await self._shown(lambda: self._iam.find(User, account(call), name))

    def _own(self, call: Call) -> str:
        """The user whose key the caller came with; empty for the account's own."""
        machine, key_id = self._identity.machine, call.caller.access_key_id
        return "" if machine.lookup("access_key", key_id) is None else machine.key(key_id).user

    async def ListUsers(self, params: Params, call: Call) -> Result:
        every = await self._shown(lambda: self._iam.all_of(User, account(call)))
        some, end = self._page(call, params, {one.name: one for one in under(every, params, lambda one: one.path)})
        return {"Users": [user_of(one) for one in some], **end}

    async def DeleteUser(self, params: Params, call: Call) -> Result:
        name = params["UserName"]
        has_keys = bool(self._identity.machine.keys_of_user(account(call), name))
        await self._ask(holders.delete_user, account(call), name, has_keys)
        return {}

    async def ListGroupsForUser(self, params: Params, call: Call) -> Result:
        """There are no groups."""
        await self._user(params["UserName"], call)
        return {"Groups": [], "IsTruncated": False}

    # --- access keys

    async def CreateAccessKey(self, params: Params, call: Call) -> Result:
        """A key that works: it may do what its account may."""
        name = params.get("UserName") or self._own(call)
        made = await self._identity.submit(ask.CreateAccessKey(call.caller, account(call), user=name))
        return {"AccessKey": {**_key(made.key), "SecretAccessKey": made.secret}}

    async def ListAccessKeys(self, params: Params, call: Call) -> Result:
        name = params.get("UserName") or self._own(call)
        if name:
            await self._user(name, call)
        keys = await self._shown(lambda: self._identity.machine.keys_of_user(account(call), name))
        some, end = self._page(call, params, {key.id: key for key in keys})
        return {"AccessKeyMetadata": [_key(key) for key in some], **end}

    async def UpdateAccessKey(self, params: Params, call: Call) -> Result:
        key = await self._key_of(params, call)
        await self._identity.submit(ask.SetAccessKeyStatus(call.caller, key.id, params["Status"]))
        return {}

    async def DeleteAccessKey(self, params: Params, call: Call) -> Result:
        key = await self._key_of(params, call)
        await self._identity.submit(ask.DeleteAccessKey(call.caller, key.id))
        return {}

    async def GetAccessKeyLastUsed(self, params: Params, call: Call) -> Result:
        """Uses are not recorded."""
        key = await self._key_of(params, call)
        return {
            "UserName": key.user or "root",
            "AccessKeyLastUsed": {"ServiceName": "N/A", "Region": "N/A"},
        }

    async def _key_of(self, params: Params, call: Call) -> AccessKey:
        """Of the caller's account, and of the user that is named."""
        key_id, machine = params["AccessKeyId"], self._identity.machine
        name = params.get("UserName")

        def look() -> AccessKey:
            key = machine.key(key_id) if machine.lookup("access_key", key_id) is not None else None
            if key is None or key.account != account(call) or (name and key.user != name):
                raise no_such(f"The Access Key with id {key_id[:128]} cannot be found.")
            return key

        return await self._shown(look)

    # --- policies

    async def PutUserPolicy(self, params: Params, call: Call) -> Result:
        return await self._put_inline(User, params, call)

    async def GetUserPolicy(self, params: Params, call: Call) -> Result:
        return await self._inline(User, params, call)

    async def ListUserPolicies(self, params: Params, call: Call) -> Result:
        return await self._inline_names(User, params, call)

    async def DeleteUserPolicy(self, params: Params, call: Call) -> Result:
        return await self._delete_inline(User, params, call)

    async def AttachUserPolicy(self, params: Params, call: Call) -> Result:
        """AWS's own policies are taken by their names, and stand for nothing yet."""
        return await self._attach(User, params, call)

    async def DetachUserPolicy(self, params: Params, call: Call) -> Result:
        return await self._detach(User, params, call)

    async def ListAttachedUserPolicies(self, params: Params, call: Call) -> Result:
        return await self._attached(User, params, call)

    # --- tags

    async def TagUser(self, params: Params, call: Call) -> Result:
        return await self._retag(User, params["UserName"], params, call)

    async def UntagUser(self, params: Params, call: Call) -> Result:
        return await self._retag(User, params["UserName"], params, call)

    async def ListUserTags(self, params: Params, call: Call) -> Result:
        return self._tags_of(await self._held(User, params, call), params, call)

    async def ListAccountAliases(self, params: Params, call: Call) -> Result:
        """There are no aliases."""
        return {"AccountAliases": [], "IsTruncated": False}


def _key(key: AccessKey) -> Result:
    return {
        "UserName": key.user or "root",
        "AccessKeyId": key.id,
        "Status": key.status,
        "CreateDate": key.created_time,
    }
