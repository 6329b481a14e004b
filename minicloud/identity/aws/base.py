"""What the nouns of IAM's door share: rules submitted, pages by Marker, entities in IAM's words."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar
from urllib.parse import quote

from minicloud.aws.call import Call
from minicloud.aws.lists import MARKER, tag_list
from minicloud.base.errors import InvalidPageToken, InvalidParameterValue
from minicloud.base.machine import Outcome
from minicloud.identity.iam.model import Policy, Profile, Role, User
from minicloud.identity.iam.tables import Ask
from minicloud.identity.service import Identity

T = TypeVar("T")
Params = dict[str, Any]
Result = dict[str, Any]
MAX_ITEMS = 100  # IAM API: of every list, unless asked for more; at most 1,000
LIST = ("Marker", "MaxItems")


class Noun:
    def __init__(self, identity: Identity) -> None:
        self._identity = identity
        self._iam = identity.machine.iam

    async def _ask(self, rule: Callable[..., Outcome], *args: Any, **given: Any) -> Any:
        return await self._identity.submit(Ask(rule, args, given))

    async def _shown(self, look: Callable[[], T]) -> T:
        return await self._identity.shell.shown(look)

    def _page(self, call: Call, params: Params, items: Mapping[str, T]) -> tuple[list[T], Result]:
        """One page by sorted key, and the result's IsTruncated and Marker."""
        size = min(params.get("MaxItems", MAX_ITEMS), 1000)
        try:
            some, marker = MARKER.page(self._identity.page_secret, call, params, items, size)
        except InvalidPageToken:
            raise InvalidParameterValue("Invalid Marker", code="ValidationError", field="Marker") from None
        return some, {"IsTruncated": bool(marker), **marker}

    # --- entities

    def _policy(self, one: Policy) -> Result:
        shown = {
            **_common(one, "Policy"),
            "DefaultVersionId": one.default,
            "AttachmentCount": self._iam.attachments(one),
            "PermissionsBoundaryUsageCount": 0,
            "IsAttachable": True,
            "UpdateDate": one.updated,
        }
        return shown | ({"Description": one.description} if one.description else {})

    def _profile(self, one: Profile) -> Result:
        found = [self._iam.get(Role, one.account, name) for name in one.roles]
        return {**_common(one, "InstanceProfile"), "Roles": [role_of(role) for role in found if role is not None]}


def account(call: Call) -> str:
    return call.caller.scope.account


def document(text: str) -> str:
    """As IAM returns documents: URL-encoded (RFC 3986)."""
    return quote(text, safe="-_.~")


def under(items: Iterable[T], params: Params, path: Callable[[T], str]) -> list[T]:
    prefix = params.get("PathPrefix", "/")
    return [one for one in items if path(one).startswith(prefix)]


def _common(one: User | Role | Policy | Profile, word: str) -> Result:
    shown: Result = {
        "Path": one.path,
        f"{word}Name": one.name,
        f"{word}Id": one.id,
        "Arn": one.arn,
        "CreateDate": one.created,
    }
    return shown | ({"Tags": tag_list(one.tags)} if one.tags else {})


def user_of(one: User) -> Result:
    return _common(one, "User")


def role_of(one: Role) -> Result:
    shown = {
        **_common(one, "Role"),
        "AssumeRolePolicyDocument": document(one.trust),
        "MaxSessionDuration": one.session_s_max,
        "RoleLastUsed": {},
    }
    return shown | ({"Description": one.description} if one.description else {})
