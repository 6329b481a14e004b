"""The forms that names must have."""

from __future__ import annotations

import re

from minicloud.base import limits
from minicloud.base.errors import InvalidParameterValue, MissingParameter

# EC2 API: launch template names 3-128 of a-zA-Z0-9().-/_ ; image names 3-128 with more; groups and keys up to 255.
_TEMPLATE = re.compile(r"^[a-zA-Z0-9().\-/_]{3,128}$")
_IMAGE = re.compile(r"^[a-zA-Z0-9()\[\] ./\-'@_]{3,128}$")


def check_template_name(name: str) -> str:
    if not _TEMPLATE.match(name):
        raise InvalidParameterValue(
            f"a launch template name has 3 to 128 of a-z A-Z 0-9 ( ) . - / _, not '{name[:140]}'", field="name"
        )
    return name


def check_image_name(name: str) -> str:
    if not _IMAGE.match(name):
        raise InvalidParameterValue(
            f"an image name has 3 to 128 letters, digits, spaces and ()[]./-'@_, not '{name[:140]}'", field="name"
        )
    return name


def check_name(name: str) -> str:
    """Key pairs and placement groups: 1 to 255 printable ASCII characters."""
    if not name:
        raise MissingParameter("a name is needed", field="name")
    if len(name) > limits.NAME_CHARS_MAX or not name.isascii() or not name.isprintable() or name != name.strip():
        raise InvalidParameterValue(
            f"a name has 1 to {limits.NAME_CHARS_MAX} printable ASCII characters without spaces at its ends",
            field="name",
        )
    return name


def check_description(text: str) -> str:
    if len(text) > limits.DESCRIPTION_CHARS_MAX:
        raise InvalidParameterValue(
            f"a description has at most {limits.DESCRIPTION_CHARS_MAX} characters, not {len(text)}", field="description"
        )
    return text
