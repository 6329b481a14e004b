"""Which AWS service a request is for, and which process of the cloud owns it. No model is read for this.

In this order: the host name of a function URL, the target header, CBOR's path, the name that the credential is for, the
path of a REST service, the version that a query names.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from minicloud.aws.query import pairs_of
from minicloud.aws.wire import BadInput, Request
from minicloud.base.limits import HTTP_BODY_BYTES_MAX

CONTROL, BROKER, BALANCER, AUTOSCALER, FUNCTIONS = "control", "broker", "balancer", "autoscaler", "functions"


@dataclass(frozen=True, slots=True)
class Known:
    """`name`: botocore's, of the client; `signing`: what credentials are for; `target`: how a target header begins."""

    name: str
    owner: str
    signing: str
    version: str = ""  # of query services
    target: str = ""
    paths: str = ""  # a pattern, of REST services
    body_bytes_max: int = 2 * 1024 * 1024  # ours, where AWS has no larger parameter


KNOWN = (
    Known("ec2", CONTROL, "ec2", "2016-11-15"),
    Known("iam", CONTROL, "iam", "2010-05-08"),
    Known("sts", CONTROL, "sts", "2011-06-15"),
    Known("ssm", CONTROL, "ssm", target="AmazonSSM"),
    Known("ec2-instance-connect", CONTROL, "ec2-instance-connect", target="AWSEC2InstanceConnectService"),
    Known("ce", CONTROL, "ce", target="AWSInsightsIndexService"),
    Known("pricing", CONTROL, "pricing", target="AWSPriceListService"),
    Known("savingsplans", CONTROL, "savingsplans"),
    Known("fis", CONTROL, "fis"),
    # A message has 1 MiB; JSON may write a character in six bytes, and base64 grows by a third.
    Known("sqs", BROKER, "sqs", "2012-11-05", "AmazonSQS", body_bytes_max=8 * 1024 * 1024),
    Known("sns", BROKER, "sns", "2010-03-31", body_bytes_max=8 * 1024 * 1024),
    Known("elbv2", BALANCER, "elasticloadbalancing", "2015-12-01"),
    Known("autoscaling", AUTOSCALER, "autoscaling", "2011-01-01"),
    Known("cloudwatch", AUTOSCALER, "monitoring", "2010-08-01", "GraniteServiceVersion20100801"),
    Known("logs", AUTOSCALER, "logs", target="Logs_20140328"),
    Known("events", FUNCTIONS, "events", target="AWSEvents"),
    Known("scheduler", FUNCTIONS, "scheduler", paths=r"/schedules|/schedule-groups"),
    # An archive of 50 MB, in base64: as much as the front door lets in.
    Known("lambda", FUNCTIONS, "lambda", paths=r"/20\d\d-\d\d-\d\d/", body_bytes_max=HTTP_BODY_BYTES_MAX),
)
BY_NAME = {one.name: one for one in KNOWN}
_BY_SIGNING = {one.signing: one for one in KNOWN}
_BY_TARGET = {one.target: one for one in KNOWN if one.target}
_BY_VERSION = {one.version: one for one in KNOWN if one.version}
_BY_PATH = tuple((re.compile(one.paths), one) for one in KNOWN if one.paths)
_CBOR = re.compile(r"/service/([^/]+)/operation/[^/]+")
_SCOPE = re.compile(r"Credential=[^/,\s]*/[0-9]*/[^/,\s]*/([^/,\s]+)/aws4_request")
_QUERY_SCOPE = re.compile(r"X-Amz-Credential=[^&]*?(?:/|%2F)([A-Za-z0-9-]+)(?:/|%2F)aws4_request", re.IGNORECASE)
_VERSION = re.compile(rb"(?:^|&)Version=([0-9-]+)")
REGION_GLOBAL = "aws-global"  # of credentials for services without regions: the cloud's own region is meant
FUNCTION_URL = ".lambda-url."  # in the host name of a function's own URL
QUERY, EC2, JSON, CBOR, REST = "query", "ec2", "json", "smithy-rpc-v2-cbor", "rest-json"


def service_of(request: Request) -> tuple[Known | None, str]:
    """The service and the protocol that the request is in; None where nobody can tell."""
    if FUNCTION_URL in request.headers.get("host", ""):
        return BY_NAME["lambda"], REST
    target = request.headers.get("x-amz-target")
    if target is not None:
        return _BY_TARGET.get(target.partition(".")[0]), JSON
    match = _CBOR.fullmatch(request.path)
    if match is not None:
        return _BY_TARGET.get(match[1]) or BY_NAME.get(match[1].lower()), CBOR
    known = signed_for(request)
    if known is not None and not known.version:
        return known, JSON if known.target else REST
    version = _version(request)
    if known is None or (version and version != known.version):
        named = _BY_VERSION.get(version)
        if known is None or named is not None:
            known = named
        elif known.name == "elbv2":
            known = None  # the older kind of load balancers
    if known is not None:
        return known, EC2 if known.name == "ec2" else QUERY
    known = next((one for pattern, one in _BY_PATH if pattern.match(request.path)), None)
    return known, REST


def signed_for(request: Request) -> Known | None:
    """By what the credential says it is for."""
    authorization = request.headers.get("authorization", "")
    match = _SCOPE.search(authorization) if authorization else _QUERY_SCOPE.search(request.query)
    return _BY_SIGNING.get(match[1]) if match is not None else None


def _version(request: Request) -> str:
    found = _VERSION.search(request.body[:1_000_000]) if request.body else None
    if found is not None:
        return found[1].decode()
    if "Version=" in request.query:
        try:
            return dict(pairs_of(request.query)).get("Version", "")
        except BadInput:
            return ""
    return ""
