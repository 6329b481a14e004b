"""The lambda door, whole."""

from __future__ import annotations

from minicloud.function.aws.calling import CallingDoor
from minicloud.function.aws.making import MakingDoor
from minicloud.function.aws.triggers import LayerDoor, MappingDoor, UrlDoor


class Lambda(MakingDoor, CallingDoor, UrlDoor, MappingDoor, LayerDoor):
    """Functions that run: packages as zip files, in Python, Node.js or any executable named `bootstrap`. Container
    images, packages in S3, VPCs, file systems, SnapStart, durable functions and code signing are refused.
    """
