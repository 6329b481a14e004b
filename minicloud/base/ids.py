"""The forms of ids: prefix, dash, 17 hex digits (8 in AWS's old form)."""

from __future__ import annotations

import re

from minicloud.base.errors import MalformedId

_FORM = re.compile(r"^(?P<prefix>[a-z]+)-(?:[0-9a-f]{8}|[0-9a-f]{17})$")
# AWS's own names for the ids of each kind, as they stand in its error codes (InvalidInstanceID.Malformed ...).
NAMES = {
    "i": "InvalidInstanceID",
    "ami": "InvalidAMIID",
    "lt": "InvalidLaunchTemplateId",
    "key": "InvalidKeyPair",
    "h": "InvalidHostID",
    "pg": "InvalidPlacementGroup",
    "r": "InvalidReservationID",
}


def check_id(prefix: str, text: str, field: str = "") -> str:
    """Raises MalformedId with AWS's code when `text` is not an id of this kind."""
    match = _FORM.match(text)
    if match is None or match["prefix"] != prefix:
        name = NAMES.get(prefix, "InvalidId")
        raise MalformedId(
            f'Invalid id: "{text[:128]}" (expecting "{prefix}-...")', code=f"{name}.Malformed", field=field
        )
    return text
