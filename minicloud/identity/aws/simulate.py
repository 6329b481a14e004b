"""What policies would say: SimulatePrincipalPolicy and its kin. Nothing of it is enforced yet."""

from __future__ import annotations

from minicloud.aws.call import Call, only
from minicloud.base.errors import InvalidParameterValue
from minicloud.identity.aws.base import LIST, Noun, Params, Result, account
from minicloud.identity.iam import evaluate
from minicloud.identity.iam.holders import Holder
from minicloud.identity.iam.model import Role, User
from minicloud.identity.iam.tables import check_document, no_such

_ALL = '{"Statement":[{"Effect":"Allow","Action":"*","Resource":"*"}]}'
_POWER = (
    '{"Statement":[{"Effect":"Allow","NotAction":["iam:*","organizations:*","account:*"],"Resource":"*"},'
    '{"Effect":"Allow","Action":["account:GetAccountInformation","account:GetPrimaryEmail","account:ListRegions",'
    '"iam:CreateServiceLinkedRole","iam:DeleteServiceLinkedRole","iam:ListRoles",'
    '"organizations:DescribeOrganization"],"Resource":"*"}]}'
)
# AWS's own policies whose documents are known here.
AWS_DOCUMENTS = {
    "arn:aws:iam::aws:policy/AdministratorAccess": _ALL,
    "arn:aws:iam::aws:policy/PowerUserAccess": _POWER,
}
_SHARED = ("PolicyInputList", "ActionNames", "ResourceArns", "ContextEntries")


class SimulateDoor(Noun):
    async def SimulatePrincipalPolicy(self, params: Params, call: Call) -> Result:
        """Of AWS's own policies AdministratorAccess and PowerUserAccess are known; boundaries are refused."""
        only(params, call, "PolicySourceArn", *_SHARED, *LIST)
        found = await self._shown(lambda: self._policies(params["PolicySourceArn"], call))
        return self._simulated({**found, **_given(params)}, params, call)

    async def SimulateCustomPolicy(self, params: Params, call: Call) -> Result:
        """Identity policies alone; boundaries and resource policies are refused."""
        only(params, call, *_SHARED, *LIST)
        return self._simulated(_given(params), params, call)

    async def GetContextKeysForCustomPolicy(self, params: Params, call: Call) -> Result:
        return {"ContextKeyNames": evaluate.names_of(_given(params).values())}

    async def GetContextKeysForPrincipalPolicy(self, params: Params, call: Call) -> Result:
        found = await self._shown(lambda: self._policies(params["PolicySourceArn"], call))
        return {"ContextKeyNames": evaluate.names_of([*found.values(), *_given(params).values()])}

    def _policies(self, arn: str, call: Call) -> dict[str, str]:
        """Of a user or role, by name. Raises NotFound; InvalidParameterValue for one that is known by name alone."""
        holder = self._holder(arn, call)
        found = dict(holder.inline)
        for one in holder.attached:
            if one in AWS_DOCUMENTS:
                found[one] = AWS_DOCUMENTS[one]
            elif one.startswith("arn:aws:iam::aws:"):
                raise InvalidParameterValue(f"AWS's policy {one} is known here by its name alone", code="InvalidInput")
            else:
                policy = self._iam.policy(account(call), one)
                found[one] = policy.versions[policy.default]["document"]
        return found

    def _holder(self, arn: str, call: Call) -> Holder:
        name = arn.rpartition("/")[2]
        found: tuple[Holder | None, ...] = (
            self._iam.get(User, account(call), name),
            self._iam.get(Role, account(call), name),
        )
        for holder in found:
            if holder is not None and holder.arn == arn:
                return holder
        raise no_such(f"The entity {arn[:256]} cannot be found.")

    def _simulated(self, policies: dict[str, str], params: Params, call: Call) -> Result:
        context = {
            one["ContextKeyName"].lower(): one.get("ContextKeyValues", [])
            for one in params.get("ContextEntries", ())
            if "ContextKeyName" in one
        }
        results: dict[str, Result] = {}
        for action in params["ActionNames"]:
            for resource in params.get("ResourceArns") or ["*"]:
                verdict = evaluate.evaluate(policies, action, resource, context)
                results[f"{len(results):06d}"] = {
                    "EvalActionName": action,
                    "EvalResourceName": resource,
                    "EvalDecision": verdict.decision,
                    "MatchedStatements": [{"SourcePolicyId": name} for name in verdict.matched],
                    "MissingContextValues": list(verdict.missing),
                }
        some, end = self._page(call, params, results)
        return {"EvaluationResults": some, **end}


def _given(params: Params) -> dict[str, str]:
    return {
        f"PolicyInputList.{number}": check_document(text)
        for number, text in enumerate(params.get("PolicyInputList", ()), 1)
    }
