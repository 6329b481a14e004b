"""From an entity to the orders that it implies: a plan, pure. What is desired of a host follows from its records alone.

    pending                         StartGuest
    stopping                        EndGuest
    shutting-down                   EndGuest, disk deleted
    terminated, disk left behind    EndGuest, disk deleted
    image pending                   SnapshotGuest

An order's id says all that it depends on, so the same need gives the same id.
"""

from __future__ import annotations

from dataclasses import dataclass

from minicloud.compute import vpc
from minicloud.compute.catalog import Catalog
from minicloud.compute.images import is_builtin
from minicloud.compute.model import Image, Instance
from minicloud.wire import common_pb2, instance_pb2
from minicloud.wire import fleet_pb2 as pb

STOP_GRACE_S = 5.0  # ours: EC2 gives a guest "a few minutes" on real hardware; here init passes SIGTERM on at once
START_PREFIX = "start:"
END_PREFIX = "end:"
IMAGE_PREFIX = "image:"


@dataclass(frozen=True, slots=True)
class Extras:
    """What of a guest's spec follows from other records than its instance's. `role`: its instance profile's."""

    firewall: pb.Firewall | None = None
    role: pb.GuestRole | None = None
    security_groups: tuple[str, ...] = ()


NO_EXTRAS = Extras()


def for_instance(instance: Instance, extras: Extras = NO_EXTRAS) -> pb.HostOrder | None:
    if instance.state == "pending":
        return pb.HostOrder(
            order_id=f"{START_PREFIX}{instance.id}:{instance.generation}",
            start=pb.StartGuest(spec=guest_spec(instance, extras)),
        )
    if instance.state == "stopping":
        return end(instance.id, instance.generation, force=instance.force_stop)
    if instance.state == "shutting-down" or (instance.state == "terminated" and instance.disk_left):
        return end(instance.id, instance.generation, force=instance.force_stop, delete_disk=True)
    return None


def end(instance_id: str, generation: int, *, force: bool = False, delete_disk: bool = False) -> pb.HostOrder:
    order_id = f"{END_PREFIX}{instance_id}:{generation}:{int(force)}{int(delete_disk)}"
    order = pb.EndGuest(
        instance_id=instance_id,
        generation=generation,
        force=force,
        delete_disk=delete_disk,
        grace_s=0.0 if force else STOP_GRACE_S,
    )
    return pb.HostOrder(order_id=order_id, end=order)


def deletes_disk(end_order_id: str) -> bool:
    return end_order_id.endswith("1")


def forget(instance_id: str, generation: int) -> pb.HostOrder:
    return pb.HostOrder(
        order_id=f"forget:{instance_id}:{generation}",
        forget=pb.ForgetGuest(instance_id=instance_id, generation=generation),
    )


def snapshot(image: Image) -> pb.HostOrder:
    order = pb.SnapshotGuest(instance_id=image.source_instance_id, image_id=image.id, freeze=image.freeze)
    return pb.HostOrder(order_id=f"{IMAGE_PREFIX}{image.id}", snapshot=order)


def update(instance: Instance, order_id: str, extras: Extras) -> pb.HostOrder:
    order = pb.UpdateGuest(
        instance_id=instance.id,
        metadata_options=_metadata_options(instance),
        tags=instance.tags,
        cpu_credits=instance.cpu_credits,
        firewall=extras.firewall,
        role=extras.role,
        security_groups=extras.security_groups,
    )
    return pb.HostOrder(order_id=order_id, update=order)


def hostname(instance: Instance) -> str:
    """`ip-10-0-0-1` needs the address before the guest has one; the id is known, so it names the guest."""
    return instance.id


def guest_spec(instance: Instance, extras: Extras = NO_EXTRAS) -> pb.GuestSpec:
    kind = Catalog.load().get(instance.type)
    return pb.GuestSpec(
        instance_id=instance.id,
        generation=instance.generation,
        account=instance.account,
        region=instance.region,
        zone=vpc.shown_zone(instance.zone, instance.region),
        host_id=instance.host_id,
        type=instance.type,
        shape=common_pb2.Shape(
            vcpus=instance.vcpus, memory_mib=instance.memory_mib, gpus=instance.gpus, disk_gib=instance.disk_gib
        ),
        image_id=instance.image_id,
        image_builtin=is_builtin(instance.image_id),
        private_ip=instance.private_ip,
        user_data=instance.user_data,
        public_key=instance.public_key,
        key_name=instance.key_name,
        metadata_options=_metadata_options(instance),
        tags=instance.tags,
        hostname=hostname(instance),
        burstable=kind.burstable,
        baseline_pct_per_vcpu=kind.baseline_pct_per_vcpu or 0.0,
        cpu_credits=instance.cpu_credits,
        reservation_id=instance.reservation_id,
        launch_index=instance.launch_index,
        launch_time=instance.launched,
        architecture=instance.arch,
        first_boot=instance.generation == 1,
        firewall=extras.firewall,
        role=extras.role,
        security_groups=extras.security_groups,
    )


def _metadata_options(instance: Instance) -> instance_pb2.MetadataOptions:
    return instance_pb2.MetadataOptions(http_tokens=instance.http_tokens, http_endpoint=instance.http_endpoint)
