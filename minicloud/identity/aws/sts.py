"""STS: who asks, and temporary credentials."""

from __future__ import annotations

import base64
import json
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from minicloud.aws.call import Call, only
from minicloud.base.arn import ACCOUNT, Arn, Caller
from minicloud.base.errors import AccessDenied, CloudError, InvalidParameterValue
from minicloud.identity import session
from minicloud.identity.iam import evaluate
from minicloud.identity.iam.model import Role, User
from minicloud.identity.service import Identity
from minicloud.identity.session import Session

Params = dict[str, Any]
Result = dict[str, Any]
_MIN_S = 900  # STS API: of every session
_TOKEN_S = (43_200, 129_600)  # GetSessionToken, GetFederationToken: default, most
_ROLE_S = 3_600  # AssumeRole: default
_CHAINED_S = 3_600  # STS API, AssumeRole: at most, where a session asks
_ROLE_SESSION = ":assumed-role/"
_EXTERNAL_ID = "sts:externalid"


@dataclass(frozen=True, slots=True)
class Ports:
    """`secret`: the cloud's own. `rand` must draw from the operating system. `wall`: Unix seconds."""

    secret: bytes
    rand: random.Random
    wall: Callable[[], float]


class Sts:
    """For `Door("sts", Sts(...))`."""

    def __init__(self, identity: Identity, ports: Ports) -> None:
        self._identity = identity
        self._iam = identity.machine.iam
        self._ports = ports

    async def GetCallerIdentity(self, params: Params, call: Call) -> Result:
        caller = call.caller
        arn = self._arn(caller)
        return {"UserId": self._user_id(caller, arn), "Account": caller.scope.account, "Arn": arn}

    def _arn(self, caller: Caller) -> str:
        if caller.arn:
            return caller.arn
        user = self._user(caller)
        return user.arn if user else f"arn:aws:iam::{caller.scope.account}:root"

    def _user(self, caller: Caller) -> User | None:
        """The IAM user whose key the caller came with."""
        machine = self._identity.machine
        if machine.lookup("access_key", caller.access_key_id) is None:
            return None
        name = machine.key(caller.access_key_id).user
        return self._iam.get(User, caller.scope.account, name) if name else None

    def _user_id(self, caller: Caller, arn: str) -> str:
        kind, _, rest = arn.rpartition(":")[2].partition("/")
        if kind == "assumed-role":
            name, _, chosen = rest.partition("/")
            role = self._iam.get(Role, caller.scope.account, name)
            return f"{role.id if role else 'AROA'}:{chosen}"
        if kind == "federated-user":
            return f"{caller.scope.account}:{rest}"
        user = self._user(caller)
        return user.id if user else caller.scope.account

    async def GetSessionToken(self, params: Params, call: Call) -> Result:
        """Credentials that expire and that every process of the cloud verifies; MFA is refused."""
        only(params, call, "DurationSeconds")
        _check_lasting(call)
        seconds = _duration(params, _TOKEN_S[0], _TOKEN_S[1])
        caller = call.caller
        arn = caller.arn or (user.arn if (user := self._user(caller)) else "")
        return {"Credentials": self._credentials(caller.scope.account, arn, seconds, caller.admin)}

    async def GetFederationToken(self, params: Params, call: Call) -> Result:
        """Session policies are refused."""
        only(params, call, "Name", "DurationSeconds")
        _check_lasting(call)
        account = call.caller.scope.account
        arn = f"arn:aws:sts::{account}:federated-user/{params['Name']}"
        seconds = _duration(params, _TOKEN_S[0], _TOKEN_S[1])
        user = {"FederatedUserId": f"{account}:{params['Name']}", "Arn": arn}
        return {"Credentials": self._credentials(account, arn, seconds), "FederatedUser": user, "PackedPolicySize": 0}

    async def AssumeRole(self, params: Params, call: Call) -> Result:
        """Who may take a role on is not enforced within an account, but for external ids; another account's caller
        must be let in by its trust policy."""
        only(params, call, "RoleArn", "RoleSessionName", "DurationSeconds", "ExternalId", "SourceIdentity")
        account, role = self._role(params, call)
        if _ROLE_SESSION in call.caller.arn and params.get("DurationSeconds", 0) > _CHAINED_S:
            raise InvalidParameterValue(
                "The requested DurationSeconds exceeds the 1 hour session limit for roles assumed by role chaining",
                code="ValidationError",
                field="DurationSeconds",
            )
        seconds = _duration(params, _ROLE_S, role.session_s_max)
        name = params["RoleSessionName"]
        arn = f"arn:aws:sts::{account}:assumed-role/{role.name}/{name}"
        result = {
            "Credentials": self._credentials(account, arn, seconds),
            "AssumedRoleUser": {"AssumedRoleId": f"{role.id}:{name}", "Arn": arn},
        }
        if params.get("SourceIdentity"):
            result["SourceIdentity"] = params["SourceIdentity"]
        return result

    async def AssumeRoleWithWebIdentity(self, params: Params, call: Call) -> Result:
        """An account has no identity providers, so no token of one is let in; AWS says so with these words."""
        provider = params.get("ProviderId") or _issuer(params["WebIdentityToken"])
        raise InvalidParameterValue(
            f"No OpenIDConnect provider found in your account for {provider[:256]}",
            code="InvalidIdentityToken",
            field="WebIdentityToken",
        )

    def _role(self, params: Params, call: Call) -> tuple[str, Role]:
        text, caller = params["RoleArn"], call.caller
        try:
            arn = Arn.parse(text)
        except CloudError:
            raise InvalidParameterValue(f"{text[:256]} is invalid", code="ValidationError", field="RoleArn") from None
        role = self._iam.get(Role, arn.account, arn.resource.rpartition("/")[2]) if ACCOUNT.match(arn.account) else None
        if role is None or role.arn != text or not self._trusts(role, caller, params):
            raise AccessDenied(
                f"User: {self._arn(caller)} is not authorized to perform: sts:AssumeRole on resource: {text[:256]}",
                code="AccessDenied",
            )
        return arn.account, role

    def _trusts(self, role: Role, caller: Caller, params: Params) -> bool:
        external_id = params.get("ExternalId")
        ids = {one for statement in _of_effect(role.trust, "Allow") for one in _external_ids(statement)}
        if ids and external_id not in ids:
            return False
        account, arn = caller.scope.account, self._arn(caller)
        if role.account == account:
            return True
        itself = self._role_behind(account, arn) or arn
        mine = {"*", account, f"arn:aws:iam::{account}:root", arn, itself}
        context = {
            "aws:principalaccount": [account],
            "aws:principalarn": [itself],
            "sts:rolesessionname": [params["RoleSessionName"]],
            **({_EXTERNAL_ID: [external_id]} if external_id else {}),
            **({"sts:sourceidentity": [params["SourceIdentity"]]} if params.get("SourceIdentity") else {}),
        }

        def says(effect: str) -> bool:
            named = (one for one in _of_effect(role.trust, effect) if mine & set(_principals(one)))
            return any(_applies(one, context) for one in named)

        return says("Allow") and not says("Deny")

    def _role_behind(self, account: str, arn: str) -> str:
        """The ARN of the role whose session this is; else empty."""
        _, _, rest = arn.partition(_ROLE_SESSION)
        role = self._iam.get(Role, account, rest.partition("/")[0]) if rest else None
        return role.arn if role is not None else ""

    def _credentials(self, account: str, arn: str, seconds: int, admin: bool = False) -> Result:
        key_id = session.new_key_id(self._ports.rand)
        until = self._ports.wall() + seconds
        made = session.issue(self._ports.secret, Session(key_id, account, arn, admin, until))
        return {
            "AccessKeyId": made.key_id,
            "SecretAccessKey": made.secret,
            "SessionToken": made.token,
            "Expiration": made.expires,
        }

    async def GetAccessKeyInfo(self, params: Params, call: Call) -> Result:
        """Of the caller's own account; an administrator may ask about any."""
        key_id, caller = params["AccessKeyId"], call.caller
        machine = self._identity.machine
        known = machine.lookup("access_key", key_id)
        if known is None or not (caller.admin or known["account"] == caller.scope.account):
            raise InvalidParameterValue(f"{key_id[:128]} is not an access key of this cloud", code="ValidationError")
        return {"Account": machine.key(key_id).account}

    async def DecodeAuthorizationMessage(self, params: Params, call: Call) -> Result:
        """This cloud encodes no such messages."""
        raise InvalidParameterValue("Message is not valid", code="InvalidAuthorizationMessageException")


def _duration(params: Params, default: int, most: int) -> int:
    seconds: int = params.get("DurationSeconds", default)
    if not _MIN_S <= seconds <= most:
        raise InvalidParameterValue(
            "The requested DurationSeconds exceeds the MaxSessionDuration set for this role."
            if most <= 43_200 and seconds > most
            else f"DurationSeconds must be {_MIN_S} to {most}",
            code="ValidationError",
            field="DurationSeconds",
        )
    return seconds


def _issuer(token: str) -> str:
    """What a JWT says of who made it. Raises InvalidIdentityToken."""
    parts = token.split(".")
    try:
        body = parts[1] if len(parts) == 3 else ""
        claims = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
        issuer = claims["iss"]
    except (ValueError, RecursionError, LookupError, TypeError):
        issuer = None
    if not isinstance(issuer, str):
        text = "The ID Token provided is not a valid JWT. (You may see this error if you sent an Access Token)"
        raise InvalidParameterValue(text, code="InvalidIdentityToken", field="WebIdentityToken")
    return issuer


def _check_lasting(call: Call) -> None:
    """A session makes no other session, or it would never end."""
    if call.caller.access_key_id.startswith(session.TEMPORARY):
        raise AccessDenied(f"Cannot call {call.operation} with session credentials", code="AccessDenied")


def _applies(statement: dict[str, Any], context: evaluate.Context) -> bool:
    """To AssumeRole. A condition that IAM does not have lets nobody in."""
    try:
        return evaluate.applies({**statement, "Resource": "*"}, "sts:AssumeRole", "*", context)
    except CloudError:
        return bool(statement.get("Effect") == "Deny")


def _of_effect(document: str, effect: str) -> Iterator[dict[str, Any]]:
    return (one for one in evaluate.statements(document) if one.get("Effect") == effect)


def _external_ids(statement: dict[str, Any]) -> Iterator[str]:
    for operator, conditions in statement.get("Condition", {}).items():
        if operator.lower().startswith("stringequals") and isinstance(conditions, dict):
            for key, values in conditions.items():
                if key.lower() == _EXTERNAL_ID:
                    yield from values if isinstance(values, list) else [values]


def _principals(statement: dict[str, Any]) -> list[str]:
    principal = statement.get("Principal", {})
    named = principal.get("AWS", []) if isinstance(principal, dict) else principal
    return [named] if isinstance(named, str) else list(named)
