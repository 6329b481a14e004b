"""The slice's not-found errors with EC2's codes and words ("Error codes for the Amazon EC2 API")."""

from __future__ import annotations

from minicloud.base.errors import NotFound


def host_not_found(text: str) -> NotFound:
    return NotFound(f"The host '{text[:64]}' does not exist", code="InvalidHostID.NotFound", field="host_id")


def image_not_found(text: str) -> NotFound:
    return NotFound(f"The image id '[{text[:128]}]' does not exist", code="InvalidAMIID.NotFound", field="image_id")


def template_not_found(text: str) -> NotFound:
    return NotFound(
        f"The launch template '{text[:128]}' does not exist",
        code="InvalidLaunchTemplateName.NotFoundException",
        field="template",
    )


def template_version_not_found(name: str, version: str) -> NotFound:
    return NotFound(
        f"The launch template '{name}' has no version '{version[:32]}'",
        code="InvalidLaunchTemplateId.VersionNotFound",
        field="version",
    )


def key_not_found(name: str) -> NotFound:
    return NotFound(f"The key pair '{name[:255]}' does not exist", code="InvalidKeyPair.NotFound", field="name")


def group_not_found(name: str) -> NotFound:
    return NotFound(
        f"The placement group '{name[:255]}' does not exist", code="InvalidPlacementGroup.Unknown", field="name"
    )
