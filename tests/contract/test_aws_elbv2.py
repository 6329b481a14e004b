"""Elastic Load Balancing by boto3, over the machine alone: shapes, errors, pages, waiters."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest

from minicloud.aws.call import Door
from minicloud.balancer.aws.elbv2 import Elbv2
from minicloud.balancer.commands import ImportCertificate
from minicloud.balancer.ports import Place
from minicloud.base.arn import Scope
from tests.contract.aws_world import AsyncBoto, AwsWorld, aws_world, refused
from tests.contract.balancing_world import BareService
from tests.pure.test_balancer_machine import certificate_of

FIXED = {"Type": "fixed-response", "FixedResponseConfig": {"StatusCode": "404", "MessageBody": "nobody"}}
PATH = [{"Field": "path-pattern", "PathPatternConfig": {"Values": ["/api/*"]}}]


class Net:
    async def subnets(self, scope: Scope) -> dict[str, str]:
        return {f"{scope.region}{letter}": f"subnet-{letter}" for letter in "ab"}

    def vpc(self, scope: Scope) -> str:
        return "vpc-1"

    def security_group(self, scope: Scope) -> str:
        return "sg-default"


@dataclass
class World:
    service: BareService
    aws: AwsWorld
    elb: AsyncBoto

    async def balancer(self, name: str = "web", **more: Any) -> Any:
        (made,) = (await self.elb.create_load_balancer(Name=name, Subnets=["subnet-a", "subnet-b"], **more))[
            "LoadBalancers"
        ]
        return made

    async def group(self, name: str = "app", **more: Any) -> Any:
        given = {"Protocol": "HTTP", "Port": 80, "VpcId": "vpc-1", **more}
        return (await self.elb.create_target_group(Name=name, **given))["TargetGroups"][0]

    async def listener(self, balancer: Any, action: dict[str, Any], **more: Any) -> Any:
        given = {"Protocol": "HTTP", "Port": 80, **more}
        arn = balancer["LoadBalancerArn"]
        made = await self.elb.create_listener(LoadBalancerArn=arn, DefaultActions=[action], **given)
        return made["Listeners"][0]


@pytest.fixture
async def world() -> AsyncIterator[World]:
    service = BareService()
    api = Elbv2(service, Net(), b"pages")  # type: ignore[arg-type]
    async with aws_world(Door("elbv2", api)) as aws:
        yield World(service, aws, aws.client("elbv2"))


def forward(group: Any) -> dict[str, Any]:
    return {"Type": "forward", "TargetGroupArn": group["TargetGroupArn"]}


async def test_a_balancer_is_active_at_once_and_gone_when_deleted(world: World) -> None:
    made = await world.balancer(Tags=[{"Key": "team", "Value": "a"}])
    assert made["State"]["Code"] == "active" and made["VpcId"] == "vpc-1" and made["SecurityGroups"] == ["sg-default"]
    assert [zone["SubnetId"] for zone in made["AvailabilityZones"]] == ["subnet-a", "subnet-b"]
    assert made["AvailabilityZones"][0]["LoadBalancerAddresses"][0]["IpAddress"].startswith("127.")
    arns = [made["LoadBalancerArn"]]
    await world.aws.run(lambda: world.elb.boto.get_waiter("load_balancer_available").wait(LoadBalancerArns=arns))
    assert (await world.balancer(Tags=[{"Key": "team", "Value": "a"}]))["LoadBalancerArn"] == arns[0]
    with refused("DuplicateLoadBalancerName"):
        await world.balancer(Scheme="internal")
    await world.elb.delete_load_balancer(LoadBalancerArn=arns[0])
    await world.aws.run(lambda: world.elb.boto.get_waiter("load_balancers_deleted").wait(LoadBalancerArns=arns))
    with refused("LoadBalancerNotFound", "One or more load balancers not found"):
        await world.elb.describe_load_balancers(Names=["web"])


async def test_what_a_balancer_cannot_be_is_refused_by_name(world: World) -> None:
    with refused("SubnetNotFound", "'subnet-x' does not exist"):
        await world.elb.create_load_balancer(Name="web", Subnets=["subnet-x"])
    with refused("ValidationError", "SecurityGroups"):
        await world.balancer(SecurityGroups=["sg-other"])
    with refused("ValidationError", "IpAddressType"):
        await world.balancer(IpAddressType="dualstack")
    with refused("ValidationError", "SubnetMappings.AllocationId"):
        mapping = {"SubnetId": "subnet-a", "AllocationId": "eipalloc-1"}
        await world.elb.create_load_balancer(Name="web", SubnetMappings=[mapping])
    assert (await world.elb.describe_load_balancers())["LoadBalancers"] == []
    made = await world.balancer(SecurityGroups=["sg-default"], IpAddressType="ipv4")
    arn = made["LoadBalancerArn"]
    assert (await world.elb.set_security_groups(LoadBalancerArn=arn, SecurityGroups=["sg-default"]))["SecurityGroupIds"]
    with refused("ValidationError", "SecurityGroups"):
        await world.elb.set_security_groups(LoadBalancerArn=arn, SecurityGroups=["sg-1"])
    await world.elb.set_subnets(LoadBalancerArn=arn, Subnets=["subnet-b", "subnet-a"])
    with refused("ValidationError", "Subnets"):
        await world.elb.set_subnets(LoadBalancerArn=arn, Subnets=["subnet-a"])
    await world.elb.set_ip_address_type(LoadBalancerArn=arn, IpAddressType="ipv4")
    with refused("InvalidAction"):
        await world.elb.describe_capacity_reservation(LoadBalancerArn=arn)
    assert (await world.elb.describe_trust_stores())["TrustStores"] == []
    with refused("TrustStoreNotFound", "One or more trust stores not found"):
        await world.elb.describe_trust_stores(Names=["t"])


async def test_actions_and_conditions_come_back_as_they_were_given(world: World) -> None:
    balancer, app, api = await world.balancer(), await world.group(), await world.group("api")
    listener = await world.listener(balancer, forward(app))
    assert listener["DefaultActions"][0]["TargetGroupArn"] == app["TargetGroupArn"]
    conditions = [
        {"Field": "host-header", "HostHeaderConfig": {"Values": ["*.example.com"]}, "Values": ["*.example.com"]},
        {"Field": "path-pattern", "PathPatternConfig": {"Values": ["/a/*"]}, "Values": ["/a/*"]},
        {"Field": "query-string", "QueryStringConfig": {"Values": [{"Key": "v", "Value": "1"}, {"Value": "x"}]}},
    ]
    sent = [{key: value for key, value in one.items() if key != "Values"} for one in conditions]
    weights = [{"TargetGroupArn": one["TargetGroupArn"], "Weight": weight} for one, weight in ((app, 1), (api, 3))]
    sticky = {"Enabled": True, "DurationSeconds": 60}
    split = {"Type": "forward", "ForwardConfig": {"TargetGroups": weights, "TargetGroupStickinessConfig": sticky}}
    arn = listener["ListenerArn"]
    (rule,) = (await world.elb.create_rule(ListenerArn=arn, Priority=7, Conditions=sent, Actions=[split]))["Rules"]
    assert rule["Conditions"] == conditions and rule["Priority"] == "7"
    assert rule["Actions"][0]["ForwardConfig"] == split["ForwardConfig"]
    others = [
        {"Field": "http-header", "HttpHeaderConfig": {"HttpHeaderName": "X-A", "Values": ["1"]}},
        {"Field": "http-request-method", "HttpRequestMethodConfig": {"Values": ["GET"]}},
        {"Field": "source-ip", "SourceIpConfig": {"Values": ["10.0.0.0/8"]}},
    ]
    target = {"Protocol": "HTTPS", "Port": "443", "Host": "#{host}", "Path": "/#{path}", "Query": "#{query}"}
    away = {"Type": "redirect", "RedirectConfig": {**target, "StatusCode": "HTTP_301"}}
    (rule,) = (await world.elb.modify_rule(RuleArn=rule["RuleArn"], Conditions=others, Actions=[away]))["Rules"]
    assert rule["Conditions"] == others and rule["Actions"][0]["RedirectConfig"] == away["RedirectConfig"]
    (rule,) = (await world.elb.modify_rule(RuleArn=rule["RuleArn"], Actions=[FIXED]))["Rules"]
    assert rule["Actions"][0]["FixedResponseConfig"] == FIXED["FixedResponseConfig"]
    both = (await world.elb.describe_rules(ListenerArn=arn))["Rules"]
    assert [one["Priority"] for one in both] == ["7", "default"] and both[1]["IsDefault"]


async def test_rules_that_cannot_be_are_refused_and_nothing_is_made(world: World) -> None:
    listener = await world.listener(await world.balancer(), FIXED)
    arn = listener["ListenerArn"]
    await world.elb.create_rule(ListenerArn=arn, Priority=1, Conditions=PATH, Actions=[FIXED])
    with refused("PriorityInUse", "Priority '1' is currently in use"):
        await world.elb.create_rule(ListenerArn=arn, Priority=1, Conditions=PATH, Actions=[FIXED])
    regex = [{"Field": "path-pattern", "RegexValues": ["(a+)+"]}]
    with refused("ValidationError", "RegexValues"):
        await world.elb.create_rule(ListenerArn=arn, Priority=2, Conditions=regex, Actions=[FIXED])
    crossed = [{"Field": "path-pattern", "HostHeaderConfig": {"Values": ["a.example"]}}]
    with refused("ValidationError", "does not belong"):
        await world.elb.create_rule(ListenerArn=arn, Priority=2, Conditions=crossed, Actions=[FIXED])
    with refused("ValidationError", "exactly one action"):
        await world.elb.create_rule(ListenerArn=arn, Priority=2, Conditions=PATH, Actions=[FIXED, FIXED])
    oidc = {
        "Type": "authenticate-cognito",
        "AuthenticateCognitoConfig": dict.fromkeys(("UserPoolArn", "UserPoolClientId", "UserPoolDomain"), "x"),
    }
    with refused("ValidationError", "AuthenticateCognitoConfig"):
        await world.elb.create_rule(ListenerArn=arn, Priority=2, Conditions=PATH, Actions=[oidc])
    with refused("ListenerNotFound"):
        await world.elb.describe_rules(ListenerArn=arn + "x")
    assert len((await world.elb.describe_rules(ListenerArn=arn))["Rules"]) == 2


async def test_targets_wait_are_healthy_and_leave(world: World) -> None:
    group = await world.group(TargetType="ip", HealthCheckPath="/up", Matcher={"HttpCode": "200-299"})
    assert (group["HealthCheckPath"], group["Matcher"]) == ("/up", {"HttpCode": "200-299"})
    arn = group["TargetGroupArn"]
    await world.elb.register_targets(TargetGroupArn=arn, Targets=[{"Id": "192.0.2.1"}, {"Id": "192.0.2.2", "Port": 81}])
    found = (await world.elb.describe_target_health(TargetGroupArn=arn))["TargetHealthDescriptions"]
    assert {one["TargetHealth"]["Reason"] for one in found} == {"Target.NotInUse"}
    assert sorted(one["HealthCheckPort"] for one in found) == ["80", "81"]
    await world.elb.deregister_targets(TargetGroupArn=arn, Targets=[{"Id": "192.0.2.1"}])
    gone = [{"Id": "192.0.2.1", "Port": 80}]
    await world.aws.run(lambda: world.elb.boto.get_waiter("target_deregistered").wait(TargetGroupArn=arn, Targets=gone))
    with refused("InvalidTarget"):
        await world.elb.deregister_targets(TargetGroupArn=arn, Targets=[{"Id": "192.0.2.9"}])
    with refused("ValidationError", "HealthCheckEnabled"):
        await world.elb.modify_target_group(TargetGroupArn=arn, HealthCheckEnabled=False)
    with refused("ValidationError", "HttpCode"):
        await world.elb.modify_target_group(TargetGroupArn=arn, Matcher={"GrpcCode": "0"})
    changed = await world.elb.modify_target_group(TargetGroupArn=arn, HealthCheckIntervalSeconds=10)
    assert changed["TargetGroups"][0]["HealthCheckIntervalSeconds"] == 10


async def test_an_instance_is_a_target_by_its_id(world: World) -> None:
    world.service.instances["i-0123456789abcdef0"] = Place("10.64.0.2", "us-east-1a")
    arn = (await world.group())["TargetGroupArn"]
    await world.elb.register_targets(TargetGroupArn=arn, Targets=[{"Id": "i-0123456789abcdef0"}])
    with refused("InvalidTarget", "not in a running state"):
        await world.elb.register_targets(TargetGroupArn=arn, Targets=[{"Id": "i-0123456789abcdef1"}])
    (one,) = (await world.elb.describe_target_health(TargetGroupArn=arn))["TargetHealthDescriptions"]
    assert one["Target"] == {"Id": "i-0123456789abcdef0", "Port": 80}


async def test_a_function_is_a_target_by_its_arn(world: World) -> None:
    for name, value in (("Port", 80), ("Protocol", "HTTP"), ("VpcId", "vpc-1"), ("HealthCheckProtocol", "HTTP")):
        with refused("ValidationError", "cannot be specified for target groups with target type 'lambda'"):
            await world.elb.create_target_group(Name="f", TargetType="lambda", **{name: value})
    (group,) = (await world.elb.create_target_group(Name="f", TargetType="lambda"))["TargetGroups"]
    assert {"Port", "Protocol", "ProtocolVersion", "VpcId", "HealthCheckProtocol", "HealthCheckPort"}.isdisjoint(group)
    assert (group["TargetType"], group["HealthCheckEnabled"]) == ("lambda", False)
    assert (group["HealthCheckIntervalSeconds"], group["HealthCheckTimeoutSeconds"]) == (35, 30)
    arn, function = group["TargetGroupArn"], "arn:aws:lambda:us-east-1:000000000000:function:f:live"
    with refused("ValidationError", "Port"):
        await world.elb.register_targets(TargetGroupArn=arn, Targets=[{"Id": function, "Port": 80}])
    await world.elb.register_targets(TargetGroupArn=arn, Targets=[{"Id": function}])
    with refused("TooManyTargets"):
        await world.elb.register_targets(TargetGroupArn=arn, Targets=[{"Id": function + "2"}])
    await world.listener(await world.balancer(), forward(group))
    (one,) = (await world.elb.describe_target_health(TargetGroupArn=arn))["TargetHealthDescriptions"]
    assert one["Target"] == {"Id": function, "AvailabilityZone": "all"} and "HealthCheckPort" not in one
    assert one["TargetHealth"]["State"] == "unavailable"
    assert one["TargetHealth"]["Reason"] == "Target.HealthCheckDisabled"
    many = [{"Key": "lambda.multi_value_headers.enabled", "Value": "true"}]
    shown = await world.elb.modify_target_group_attributes(TargetGroupArn=arn, Attributes=many)
    assert many[0] in shown["Attributes"]
    changed = await world.elb.modify_target_group(TargetGroupArn=arn, HealthCheckEnabled=True, HealthCheckPath="/up")
    assert changed["TargetGroups"][0]["HealthCheckEnabled"] is True
    net = await world.balancer("net", Type="network")
    (other,) = (await world.elb.create_target_group(Name="g", TargetType="lambda"))["TargetGroups"]
    with refused("InvalidConfigurationRequest", "lambda"):
        await world.listener(net, forward(other), Protocol="TCP")
    await world.elb.deregister_targets(TargetGroupArn=arn, Targets=[{"Id": function}])
    assert (await world.elb.describe_target_health(TargetGroupArn=arn))["TargetHealthDescriptions"] == []


async def test_attributes_and_tags(world: World) -> None:
    balancer, group = await world.balancer(), await world.group()
    arn = balancer["LoadBalancerArn"]
    attribute = {"Key": "idle_timeout.timeout_seconds", "Value": "30"}
    changed = await world.elb.modify_load_balancer_attributes(LoadBalancerArn=arn, Attributes=[attribute])
    assert attribute in changed["Attributes"]
    assert attribute in (await world.elb.describe_load_balancer_attributes(LoadBalancerArn=arn))["Attributes"]
    with refused("ValidationError", "attribute key 'x' is not recognized"):
        await world.elb.modify_load_balancer_attributes(LoadBalancerArn=arn, Attributes=[{"Key": "x", "Value": "1"}])
    arns = [arn, group["TargetGroupArn"]]
    await world.elb.add_tags(ResourceArns=arns, Tags=[{"Key": "a", "Value": "1"}, {"Key": "b", "Value": ""}])
    await world.elb.remove_tags(ResourceArns=arns, TagKeys=["b"])
    shown = (await world.elb.describe_tags(ResourceArns=arns))["TagDescriptions"]
    assert [one["Tags"] for one in shown] == [[{"Key": "a", "Value": "1"}]] * 2
    with refused("DuplicateTagKeys"):
        await world.elb.add_tags(ResourceArns=arns, Tags=[{"Key": "a", "Value": "1"}, {"Key": "a", "Value": "2"}])
    with refused("TargetGroupNotFound"):
        await world.elb.add_tags(ResourceArns=[arn, arns[1] + "0"], Tags=[{"Key": "late", "Value": ""}])
    assert "late" not in str(await world.elb.describe_tags(ResourceArns=arns))


async def test_listeners_have_certificates_and_policies(world: World) -> None:
    balancer = await world.balancer()
    arns = []
    for name in ("a.example", "b.example"):
        made = await world.service.submit(ImportCertificate(Scope(), *certificate_of(name)))
        arns.append(made.arn)
    listener = await world.listener(
        balancer, FIXED, Protocol="HTTPS", Port=443, Certificates=[{"CertificateArn": arns[0]}]
    )
    assert listener["SslPolicy"] == "ELBSecurityPolicy-2016-08"
    arn = listener["ListenerArn"]
    await world.elb.add_listener_certificates(ListenerArn=arn, Certificates=[{"CertificateArn": arns[1]}])
    found = (await world.elb.describe_listener_certificates(ListenerArn=arn))["Certificates"]
    assert [(one["CertificateArn"], one["IsDefault"]) for one in found] == [(arns[0], True), (arns[1], False)]
    with refused("OperationNotPermitted"):
        await world.elb.remove_listener_certificates(ListenerArn=arn, Certificates=[{"CertificateArn": arns[0]}])
    with refused("SSLPolicyNotFound"):
        await world.elb.modify_listener(ListenerArn=arn, SslPolicy="ELBSecurityPolicy-2010")
    (policy,) = (await world.elb.describe_ssl_policies(Names=["ELBSecurityPolicy-TLS13-1-2-2021-06"]))["SslPolicies"]
    assert policy["SslProtocols"] == ["TLSv1.2", "TLSv1.3"]
    (shown,) = (await world.elb.describe_listeners(ListenerArns=[arn]))["Listeners"]
    assert shown["Certificates"] == [{"CertificateArn": arns[0]}]


async def test_pages_hold_everything_once_and_another_account_sees_nothing(world: World) -> None:
    for name in "abcde":
        await world.group(name)
    pages = world.elb.boto.get_paginator("describe_target_groups")
    found = await world.aws.run(
        lambda: [
            one["TargetGroupName"]
            for page in pages.paginate(PaginationConfig={"PageSize": 2})
            for one in page["TargetGroups"]
        ]
    )
    assert sorted(found) == list("abcde")
    stranger = world.aws.client("elbv2", account="111111111111")
    assert (await stranger.describe_target_groups())["TargetGroups"] == []
    (mine,) = (await world.elb.describe_target_groups(Names=["a"]))["TargetGroups"]
    with refused("TargetGroupNotFound"):
        await stranger.describe_target_groups(TargetGroupArns=[mine["TargetGroupArn"]])
    await stranger.delete_target_group(TargetGroupArn=mine["TargetGroupArn"])
    assert (await world.elb.describe_target_groups(Names=["a"]))["TargetGroups"] == [mine]
    assert (await world.elb.describe_account_limits())["Limits"]


async def test_rules_and_policies_come_whole_in_pages_and_in_their_order(world: World) -> None:
    arn = (await world.listener(await world.balancer(), FIXED))["ListenerArn"]
    for priority in (30, 4, 200, 11, 5):
        await world.elb.create_rule(ListenerArn=arn, Priority=priority, Conditions=PATH, Actions=[FIXED])

    async def paged(operation: str, member: str, name: str, **given: Any) -> list[str]:
        pages = world.elb.boto.get_paginator(operation).paginate(**given, PaginationConfig={"PageSize": 2})
        return await world.aws.run(lambda: [one[name] for page in pages for one in page[member]])

    priorities = await paged("describe_rules", "Rules", "Priority", ListenerArn=arn)
    assert priorities == ["4", "5", "11", "30", "200", "default"]
    names = [one["Name"] for one in (await world.elb.describe_ssl_policies())["SslPolicies"]]
    assert len(names) == 4 and await paged("describe_ssl_policies", "SslPolicies", "Name") == names
    assert not (await world.elb.describe_ssl_policies(LoadBalancerType="gateway"))["SslPolicies"]
