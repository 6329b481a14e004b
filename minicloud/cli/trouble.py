"""Errors for people: code, message, field, and what to do next; or the same as JSON. Always on stderr."""

from __future__ import annotations

import json
import sys

from minicloud.base import errors
from minicloud.base.errors import CloudError

_TYPES = "`minicloud type list` shows the types; `--fits` only those that fit now"
# By AWS-style code first, then by field, then by class.
_BY_CODE = {
    "InvalidInstanceID.NotFound": "`minicloud instance list` shows the instances of this account and region",
    "InvalidInstanceID.Malformed": "`minicloud instance list` shows the ids",
    "InvalidAMIID.NotFound": "`minicloud image list` shows the images",
    "InvalidAMIID.Malformed": "`minicloud image list` shows the ids",
    "InvalidHostID.NotFound": "`minicloud host list` shows the hosts",
    "InvalidKeyPair.NotFound": "`minicloud key list` shows the key pairs",
    "InvalidInstanceType": _TYPES,
    "InvalidUserData.Malformed": "user data is text of at most 16 KiB; larger things go into an image or are fetched",
    "InstanceLimitExceeded": "`minicloud quota list` shows the limits; an administrator may `quota set` them",
    "VcpuLimitExceeded": "`minicloud quota list` shows the limits; an administrator may `quota set` them",
    "QueueDoesNotExist": "`minicloud queue list` shows the queues of this account and region",
    "QueueDeletedRecently": "wait a minute, or take another name",
    "ReceiptHandleIsInvalid": "a receipt handle comes from `minicloud queue receive`, for this queue",
    "ResourceInUse": "what uses it must go first; `minicloud group delete NAME --force` ends a group's instances",
    "InstanceRefreshInProgress": "`minicloud group refresh list NAME` shows it, `refresh cancel NAME` ends it",
    "ActiveInstanceRefreshNotFound": "`minicloud group refresh list NAME` shows those that there were",
    "ScalingActivityInProgress": "wait, or look with `minicloud group watch NAME`",
    "CommandEnded": "the command did not wait for its input",
    "CommandNotStarted": "a guest has what this machine has under /usr; `minicloud instance cp` brings it more",
    "InvalidTarget": "`minicloud instance list` shows which instances run",
    "InvalidGroup.NotFound": "`minicloud security-group list` shows the security groups",
    "InvalidPlacementGroup.Unknown": "`minicloud placement-group list` shows the placement groups",
    "LoadBalancerNotFound": "`minicloud balancer list` shows the balancers of this account and region",
    "TargetGroupNotFound": "`minicloud target-group list` shows the target groups of this account and region",
}
# What was not found, or is no such thing, by the field that named it.
_BY_FIELD = {
    "instance_type": _TYPES,
    "topic": "`minicloud topic list` shows the topics of this account and region",
    "group": "`minicloud group list` shows the groups of this account and region",
    "policy": "`minicloud policy list` shows the policies",
    "template": "`minicloud template list` shows the launch templates",
    "zones": "`minicloud host list` shows the zones",
    "types": _TYPES,
    "target_groups": "`minicloud target-group list` shows the target groups",
    "recurrence": "five fields: minute hour day month weekday, such as '0 9 * * MON-FRI'",
    "instance_ids": "`minicloud group instances` shows the instances of groups",
    "logGroupName": "`minicloud log groups` shows the log groups of this account and region",
    "logStreamName": "`minicloud log streams GROUP` shows the streams of a group",
    "function": "`minicloud function list` shows the functions of this account and region",
    "runtime": "lambda_function.py, app.py, main.py, index.js or bootstrap says it; else --runtime and --handler",
    "AlarmName": "`minicloud alarm list` shows the alarms of this account and region",
    "subscription_arn": "`minicloud topic subscriptions` shows the subscriptions",
}
_BY_CLASS: tuple[tuple[type[CloudError], str], ...] = (
    (errors.Unavailable, "is the cloud up? `minicloud status`, or `minicloud up`; elsewhere: --endpoint HOST:PORT"),
    (errors.Unauthenticated, "set MINICLOUD_ACCESS_KEY_ID and MINICLOUD_SECRET_ACCESS_KEY"),
    (errors.AccessDenied, "`minicloud account whoami` shows who you are to this cloud"),
    (errors.InsufficientCapacity, "`minicloud host list` shows what is free, `minicloud type list --fits` what fits"),
    (errors.InsufficientStorage, "free space under the cloud's data directory"),
    (errors.LimitExceeded, "`minicloud quota list` shows the limits"),
    (errors.DeadlineExceeded, "the work may still go on; look again, or give it more time"),
    (errors.IncorrectState, "`minicloud instance show ID` shows its state and why"),
    (errors.OperationNotPermitted, "`minicloud instance modify ID --no-termination-protection` lifts the protection"),
    (errors.Internal, "the cloud's log under <data dir>/log has the story"),
)


def hint(error: CloudError) -> str:
    """What to do next; '' where there is nothing to say."""
    if error.code in _BY_CODE:
        return _BY_CODE[error.code]
    if isinstance(error, errors.NotFound | errors.InvalidParameterValue) and error.field in _BY_FIELD:
        return _BY_FIELD[error.field]
    return next((text for kind, text in _BY_CLASS if isinstance(error, kind)), "")


def show_error(error: CloudError, output: str = "table") -> None:
    story = {
        "code": error.code,
        "message": error.message,
        "field": error.field or "",
        "hint": hint(error),
        "request_id": error.details.get("request_id", ""),
    }
    if output == "json":
        sys.stderr.write(json.dumps({"error": {**story, "details": error.details}}) + "\n")
        return
    sys.stderr.write(f"error: {story['code']}: {story['message']}\n")
    for name in ("field", "hint"):
        if story[name]:
            sys.stderr.write(f"  {name}: {story[name]}\n")
    if isinstance(error, errors.Internal) and story["request_id"]:
        sys.stderr.write(f"  request: {story['request_id']}\n")
