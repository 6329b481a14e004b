"""Rules of managed policies and of instance profiles."""

from __future__ import annotations

from dataclasses import replace

from minicloud.base import limits
from minicloud.base.errors import AlreadyExists, LimitExceeded
from minicloud.base.machine import Context, Outcome
from minicloud.base.tags import check_tags
from minicloud.identity.iam.model import Policy, Profile, Role
from minicloud.identity.iam.tables import Tables, check_document, conflict, drop, new_id, no_such, put


def create_policy(
    iam: Tables,
    context: Context,
    account: str,
    name: str,
    path: str,
    document: str,
    description: str,
    tags: dict[str, str],
) -> Outcome:
    iam.check_new(Policy, account, name, path)
    check_document(document)
    if len(document) > limits.IAM_POLICY_CHARS_MAX:
        raise LimitExceeded(f"Cannot exceed quota for PolicySize: {limits.IAM_POLICY_CHARS_MAX}", code="LimitExceeded")
    made = Policy(
        account,
        name,
        path,
        new_id(Policy, context),
        context.now,
        context.now,
        {"v1": {"document": document, "created": context.now}},
        description=description,
        tags=check_tags(tags),
    )
    return put(made, made)


def delete_policy(iam: Tables, context: Context, account: str, arn: str) -> Outcome:
    policy = iam.policy(account, arn)
    if iam.attachments(policy):
        raise conflict("detach from all entities")
    if len(policy.versions) > 1:
        raise conflict("delete all non-default versions")
    return drop(policy)


def create_version(iam: Tables, context: Context, account: str, arn: str, document: str, as_default: bool) -> Outcome:
    """The reply is (policy, version)."""
    policy = iam.policy(account, arn)
    check_document(document)
    if len(policy.versions) >= limits.IAM_POLICY_VERSIONS_MAX:
        raise LimitExceeded(
            f"A managed policy can have up to {limits.IAM_POLICY_VERSIONS_MAX} versions. Before you create a new "
            "version, you must delete an existing version.",
            code="LimitExceeded",
        )
    version = f"v{policy.made + 1}"
    after = replace(
        policy,
        versions={**policy.versions, version: {"document": document, "created": context.now}},
        made=policy.made + 1,
        default=version if as_default else policy.default,
        updated=context.now,
    )
    return put((after, version), after)


def check_version(policy: Policy, version: str) -> None:
    if version not in policy.versions:
        raise no_such(f"Policy {policy.arn} version {version[:32]} does not exist or is not attachable.")


def delete_version(iam: Tables, context: Context, account: str, arn: str, version: str) -> Outcome:
    policy = iam.policy(account, arn)
    check_version(policy, version)
    if version == policy.default:
        raise conflict("set another version as the default one")
    after = replace(policy, versions={key: value for key, value in policy.versions.items() if key != version})
    return put(after, after)


def set_default(iam: Tables, context: Context, account: str, arn: str, version: str) -> Outcome:
    policy = iam.policy(account, arn)
    check_version(policy, version)
    after = replace(policy, default=version, updated=context.now)
    return put(after, after)


# --- instance profiles


def create_profile(iam: Tables, context: Context, account: str, name: str, path: str, tags: dict[str, str]) -> Outcome:
    iam.check_new(Profile, account, name, path)
    made = Profile(account, name, path, new_id(Profile, context), context.now, tags=check_tags(tags))
    return put(made, made)


def delete_profile(iam: Tables, context: Context, account: str, name: str) -> Outcome:
    profile = iam.find(Profile, account, name)
    if profile.roles:
        raise conflict("remove roles from instance profile")
    return drop(profile)


def add_role(iam: Tables, context: Context, account: str, name: str, role: str) -> Outcome:
    profile = iam.find(Profile, account, name)
    iam.find(Role, account, role)
    if role in profile.roles:
        raise AlreadyExists(f"Role {role} already exists in the instance profile.", code="EntityAlreadyExists")
    if profile.roles:
        raise LimitExceeded("Cannot exceed quota for InstanceSessionsPerInstanceProfile: 1", code="LimitExceeded")
    after = replace(profile, roles=[role])
    return put(after, after)


def remove_role(iam: Tables, context: Context, account: str, name: str, role: str) -> Outcome:
    profile = iam.find(Profile, account, name)
    iam.find(Role, account, role)
    if role not in profile.roles:
        raise no_such(f"Role {role[:64]} is not in the instance profile.")
    after = replace(profile, roles=[])
    return put(after, after)
