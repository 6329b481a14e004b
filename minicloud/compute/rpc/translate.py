"""Entities to messages. One function each; every field of the message has its line here."""

from __future__ import annotations

from typing import Any

from minicloud.base.arn import Scope
from minicloud.base.shape import Shape
from minicloud.compute import security
from minicloud.compute.catalog import InstanceType
from minicloud.compute.links import HostLink
from minicloud.compute.model import Group, Host, Image, Instance, KeyPair, Template, TemplateVersion
from minicloud.compute.service import ComputeService
from minicloud.compute.state import State
from minicloud.wire import catalog_pb2, common_pb2, fleet_pb2, host_pb2, instance_pb2


def shape(value: Shape) -> common_pb2.Shape:
    return common_pb2.Shape(vcpus=value.vcpus, memory_mib=value.memory_mib, gpus=value.gpus, disk_gib=value.disk_gib)


def isolation(value: dict[str, Any]) -> instance_pb2.Isolation:
    return instance_pb2.Isolation(**value)


def instance(service: ComputeService, one: Instance) -> instance_pb2.Instance:
    host = service.state.hosts.get(one.host_id)
    sample = _sample(service, one)
    system, guest = statuses(service, one)
    message = instance_pb2.Instance(
        id=one.id,
        account=one.account,
        region=one.region,
        zone=one.zone,
        host_id=one.host_id,
        host_name=host.name if host else "",
        type=one.type,
        image_id=one.image_id,
        state=one.state,
        private_ip=one.private_ip,
        private_dns=f"{one.id}.{one.region}.compute.internal" if one.private_ip else "",
        key_name=one.key_name,
        tags=one.tags,
        shape=shape(one.shape),
        architecture=one.arch,
        reservation_id=one.reservation_id,
        launch_index=one.launch_index,
        launch_time=one.launched,
        created_time=one.created,
        termination_protection=one.termination_protection,
        shutdown_behavior=one.shutdown_behavior,
        metadata_options=instance_pb2.MetadataOptions(http_tokens=one.http_tokens, http_endpoint=one.http_endpoint),
        placement=instance_pb2.Placement(
            zone=one.zone,
            host_id=one.host_id if one.affinity else "",
            group_name=one.group_name,
            partition=one.partition,
            strategy=one.strategy,
        ),
        cpu_credits=one.cpu_credits,
        cpu_credit_balance=sample.credit_balance if sample else 0.0,
        system_status=system,
        instance_status=guest,
        user_data_status=one.user_data_status,
        user_data_exit=one.user_data_exit,
        generation=one.generation,
        gpu_ids=one.gpu_ids,
        monitoring=one.monitoring,
        security_groups=[group["GroupName"] for group in security.named(service.state, one)],
    )
    if one.reason_code:
        message.state_reason.code = one.reason_code
        message.state_reason.message = one.reason_message
    if one.isolation:
        message.isolation.CopyFrom(isolation(one.isolation))
    if one.exit_code is not None:
        message.exit_code = one.exit_code
    return message


def _sample(service: ComputeService, one: Instance) -> fleet_pb2.GuestSample | None:
    return service.samples.get(one.id) if one.state == "running" else None


def statuses(service: ComputeService, one: Instance) -> tuple[str, str]:
    """System: its host agent reports. Instance: the guest's init answered its last ping."""
    host = service.state.hosts.get(one.host_id)
    if one.state not in ("pending", "running"):
        return "not-applicable", "not-applicable"
    system = "ok" if host is not None and host.state == "up" else "impaired"
    guest = instance_status(service, one)
    return "initializing" if guest == "initializing" and system == "ok" else system, guest


def instance_status(service: ComputeService, one: Instance) -> str:
    """Of one that is pending or running."""
    sample = _sample(service, one)
    if sample is None or sample.generation != one.generation:
        return "initializing"
    return "ok" if sample.answers else "impaired"


def host(state: State, one: Host, link: HostLink | None) -> host_pb2.Host:
    here = [item for item in state.on_host(one.id) if item.state in ("pending", "running", "stopping", "shutting-down")]
    message = host_pb2.Host(
        id=one.id,
        name=one.name,
        zone=one.zone,
        state=one.state,
        cordoned=one.cordoned,
        architecture=one.arch,
        capacity=shape(one.capacity),
        sellable=shape(one.sellable),
        used=shape(state.used(one.id)),
        overcommit_cpu=one.overcommit_cpu,
        overcommit_memory=one.overcommit_memory,
        overcommit_gpu=one.overcommit_gpu,
        instances=len(here),
        ray_node_id=one.session,
        agent_address=one.agent_address,
        isolation=describe_isolation(one.isolation),
        warnings=one.isolation.get("warnings", []),
    )
    if link is not None:
        message.last_seen = link.vitals.seen
        message.warm_workers = link.vitals.warm_workers
    if one.state != "up":
        message.state_reason.code = one.reason_code
        message.state_reason.message = one.reason_message
    return message


def describe_isolation(value: dict[str, Any]) -> str:
    if not value:
        return ""
    cgroup = value.get("cgroup", "none")
    limits = f"cgroup {cgroup}" if cgroup != "none" else "no cgroup"
    return f"{value.get('driver', '')}, {value.get('network', '')}, {limits}"


def instance_type(one: InstanceType) -> catalog_pb2.InstanceType:
    return catalog_pb2.InstanceType(
        name=one.name,
        family=one.family,
        vcpus=one.vcpus,
        memory_mib=one.memory_mib,
        gpus=one.gpus,
        gpu_name=one.gpu_name,
        gpu_memory_mib=one.gpu_memory_mib,
        architecture=one.arch,
        local_storage_gb=one.local_storage_gb,
        storage_type=one.storage_type,
        network_gbps=one.network_gbps,
        clock_ghz=one.clock_ghz,
        current_generation=one.current_generation,
        bare_metal=one.bare_metal,
        burstable=one.burstable,
        baseline_pct_per_vcpu=one.baseline_pct_per_vcpu or 0.0,
        usd_per_hour=one.on_demand_usd_per_hour,
        spot=one.spot,
        dedicated_hosts=one.dedicated_hosts,
    )


def image(one: Image) -> catalog_pb2.Image:
    return catalog_pb2.Image(
        id=one.id,
        name=one.name,
        description=one.description,
        architecture=one.arch,
        state=one.state,
        builtin=one.builtin,
        size_bytes=one.size_bytes,
        created_time=one.created,
        source_instance_id=one.source_instance_id,
        tags=one.tags,
        state_reason=one.reason,
    )


def key_pair(one: KeyPair) -> catalog_pb2.KeyPair:
    return catalog_pb2.KeyPair(
        id=one.id,
        name=one.name,
        fingerprint=one.fingerprint,
        public_key=one.public_key,
        type=one.type,
        created_time=one.created,
        tags=one.tags,
    )


def template(one: Template) -> catalog_pb2.LaunchTemplate:
    return catalog_pb2.LaunchTemplate(
        id=one.id,
        name=one.name,
        default_version=one.default_version,
        latest_version=one.latest_version,
        created_time=one.created,
        tags=one.tags,
    )


_TEMPLATE_DATA = frozenset(catalog_pb2.TemplateData.DESCRIPTOR.fields_by_name)


def template_version(one: Template, version: TemplateVersion) -> catalog_pb2.LaunchTemplateVersion:
    return catalog_pb2.LaunchTemplateVersion(
        template=template(one),
        version=version.version,
        description=version.description,
        data=catalog_pb2.TemplateData(**{name: version.data[name] for name in _TEMPLATE_DATA & version.data.keys()}),
        created_time=version.created,
    )


def template_data(message: catalog_pb2.TemplateData) -> dict[str, Any]:
    """Only what was given; the keys are those of LaunchSpec."""
    data: dict[str, Any] = {
        name: value
        for name in (
            "image_id",
            "instance_type",
            "key_name",
            "user_data",
            "zone",
            "group_name",
            "strategy",
            "http_tokens",
            "shutdown_behavior",
            "cpu_credits",
        )
        if (value := getattr(message, name))
    }
    if message.tags:
        data["tags"] = dict(message.tags)
    for name in ("termination_protection", "monitoring"):
        if message.HasField(name):
            data[name] = getattr(message, name)
    return data


def group(state: State, one: Group) -> catalog_pb2.PlacementGroup:
    members = sum(1 for _ in state.in_group(Scope(one.account, one.region), one.name))
    return catalog_pb2.PlacementGroup(
        id=one.id,
        name=one.name,
        strategy=one.strategy,
        partitions=one.partitions,
        created_time=one.created,
        instances=members,
    )
