"""Images: the built-in one, and those made from an instance's disk or registered from a tar.

The built-in `base` is an empty disk over the host's own /usr; any architecture. A disk image is a tar of the whole
disk, kept by the control plane and fetched by the host that needs it.
"""

from __future__ import annotations

from dataclasses import replace

from minicloud.base.arn import Scope
from minicloud.base.errors import AlreadyExists, IncorrectState, InvalidParameterValue
from minicloud.base.ids import check_id
from minicloud.base.machine import Context, Outcome
from minicloud.base.tags import check_tags
from minicloud.compute import names, public_images
from minicloud.compute.catalog import ARCHITECTURES
from minicloud.compute.commands import CreateImage, DeregisterImage, RegisterImage
from minicloud.compute.errors import image_not_found
from minicloud.compute.instances import find as find_instance
from minicloud.compute.model import Image
from minicloud.compute.state import Draft, State

BASE = Image(
    id="ami-0000000000000ba5e",
    account="",
    region="",
    name="base",
    state="available",
    created=0.0,
    arch="",
    description="An empty disk over the host's own system: Python, a shell and what else the host has under /usr",
    builtin=True,
)
BUILTIN: dict[str, Image] = {BASE.id: BASE}
_BUILTIN_NAMES = {image.name: image for image in BUILTIN.values()}


def is_builtin(image_id: str) -> bool:
    return image_id in BUILTIN or public_images.find(image_id) is not None


def find(state: State, scope: Scope, text: str) -> Image:
    """By id or name. Raises MalformedId, NotFound (InvalidAMIID.NotFound)."""
    builtin = BUILTIN.get(text) or _BUILTIN_NAMES.get(text) or public_images.find(text)
    if builtin is not None:
        return builtin
    if text.startswith("ami-"):
        check_id("ami", text, "image_id")
        image = state.images.get(text)
    else:
        image = state.named(Image.kind, scope, text)
    if image is None or image.account != scope.account or image.region != scope.region:
        raise image_not_found(text)
    return image


def create(state: State, command: CreateImage, context: Context) -> Outcome:
    """The reply is the pending Image; its host makes the tar."""
    instance = find_instance(state, command.scope, command.instance_id)
    if instance.state not in ("running", "stopped"):
        raise IncorrectState(
            f"The instance '{instance.id}' must be running or stopped to make an image; it is '{instance.state}'",
            field="instance_id",
        )
    host = state.hosts.get(instance.host_id)
    if host is None or host.state != "up":
        raise IncorrectState(f"the host that holds the disk of '{instance.id}' is down", field="instance_id")
    _check_free(state, command.scope, command.name)
    image = Image(
        id=context.new_id("ami"),
        account=command.scope.account,
        region=command.scope.region,
        name=command.name,
        state="pending",
        created=context.now,
        arch=instance.arch,
        description=names.check_description(command.description),
        source_instance_id=instance.id,
        freeze=not command.no_reboot,
        tags=check_tags(command.tags),
    )
    draft = Draft()
    draft.put(image)
    return draft.outcome(image)


def check_registration(state: State, scope: Scope, name: str, arch: str) -> None:
    """Before the tar is taken in, so that a bad name costs no upload."""
    _check_free(state, scope, name)
    if arch not in ARCHITECTURES:
        raise InvalidParameterValue(
            f"'{arch[:32]}' is not one of {', '.join(ARCHITECTURES)}", field="header.architecture"
        )


def register(state: State, command: RegisterImage, context: Context) -> Outcome:
    check_registration(state, command.scope, command.name, command.arch)
    image = Image(
        id=command.image_id,
        account=command.scope.account,
        region=command.scope.region,
        name=command.name,
        state="available",
        created=context.now,
        arch=command.arch,
        description=names.check_description(command.description),
        size_bytes=command.size_bytes,
        tags=check_tags(command.tags),
    )
    draft = Draft()
    draft.put(image)
    return draft.outcome(image)


def deregister(state: State, command: DeregisterImage, context: Context) -> Outcome:
    """Running instances keep what they have; stopped ones too, their disks are their own."""
    image = find(state, command.scope, command.image)
    if image.builtin:
        raise InvalidParameterValue(f"image '{image.name}' is built in and cannot be deregistered", field="image_id")
    if image.state == "pending":
        raise IncorrectState(f"image {image.id} is still being made", field="image_id")
    draft = Draft()
    draft.drop(image)
    return draft.outcome(replace(image, state="deregistered"))


def _check_free(state: State, scope: Scope, name: str) -> None:
    names.check_image_name(name)
    taken = state.named(Image.kind, scope, name) or _BUILTIN_NAMES.get(name)
    if taken is not None:
        raise AlreadyExists(
            f"the image name '{name}' is in use by {taken.id}", code="InvalidAMIName.Duplicate", field="name"
        )
