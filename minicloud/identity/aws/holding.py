"""What users and roles have alike: policies in them, policies attached to them, tags. A `kind` says which is meant."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from minicloud.aws.call import Call, only
from minicloud.aws.lists import tag_list, tag_map
from minicloud.identity.aws.base import LIST, Noun, Params, Result, account, document, under
from minicloud.identity.iam import holders
from minicloud.identity.iam.holders import Holder, Kind
from minicloud.identity.iam.model import Policy, Profile, Role, User


def _name(kind: Kind) -> str:
    """Of the parameter that names one: UserName, RoleName."""
    return f"{kind.word.capitalize()}Name"


class HolderDoor(Noun):
    async def _held(self, kind: Kind, params: Params, call: Call) -> Holder:
        return await self._shown(lambda: holders.find(self._iam, kind, account(call), params[_name(kind)]))

    async def _change(self, rule: Callable[..., Any], kind: Kind, params: Params, call: Call, *parts: str) -> Result:
        """`parts`: the parameters that the rule takes after the holder's name."""
        await self._ask(rule, kind, account(call), params[_name(kind)], *(params[one] for one in parts))
        return {}

    async def _put_inline(self, kind: Kind, params: Params, call: Call) -> Result:
        return await self._change(holders.put_inline, kind, params, call, "PolicyName", "PolicyDocument")

    async def _delete_inline(self, kind: Kind, params: Params, call: Call) -> Result:
        return await self._change(holders.delete_inline, kind, params, call, "PolicyName")

    async def _attach(self, kind: Kind, params: Params, call: Call) -> Result:
        return await self._change(holders.attach, kind, params, call, "PolicyArn")

    async def _detach(self, kind: Kind, params: Params, call: Call) -> Result:
        return await self._change(holders.detach, kind, params, call, "PolicyArn")

    async def _inline(self, kind: Kind, params: Params, call: Call) -> Result:
        name, policy = params[_name(kind)], params["PolicyName"]
        text = await self._shown(lambda: holders.inline_of(self._iam, kind, account(call), name, policy))
        return {_name(kind): name, "PolicyName": policy, "PolicyDocument": document(text)}

    async def _inline_names(self, kind: Kind, params: Params, call: Call) -> Result:
        holder = await self._held(kind, params, call)
        some, end = self._page(call, params, {name: name for name in holder.inline})
        return {"PolicyNames": some, **end}

    async def _attached(self, kind: Kind, params: Params, call: Call) -> Result:
        """Under the path that is asked for."""
        only(params, call, _name(kind), "PathPrefix", *LIST)
        found = under((await self._held(kind, params, call)).attached, params, _path_of)
        some, end = self._page(call, params, {arn: arn for arn in found})
        return {"AttachedPolicies": [{"PolicyName": arn.rpartition("/")[2], "PolicyArn": arn} for arn in some], **end}

    # --- tags, of policies and instance profiles too

    async def _retag(self, kind: Kind | type[Policy] | type[Profile], name: str, params: Params, call: Call) -> Result:
        tags, gone = tag_map(params.get("Tags", ())), tuple(params.get("TagKeys", ()))
        await self._ask(holders.retag, kind, account(call), name, tags, gone)
        return {}

    def _tags_of(self, one: User | Role | Policy | Profile, params: Params, call: Call) -> Result:
        some, end = self._page(call, params, {tag["Key"]: tag for tag in tag_list(one.tags)})
        return {"Tags": some, **end}


def _path_of(policy: str) -> str:
    """Of a policy by its ARN: arn:aws:iam::1:policy/team/a is under /team/."""
    return "/" + policy.partition("/")[2].rpartition("/")[0] + "/" if policy.count("/") > 1 else "/"
