"""Public images of AWS under their own names and ids, each of which is the built-in `base` here.

So that `run-instances` lines from a book or a module work: names and SSM parameters of the images that people start
from, and ids that tutorials name. What runs is always `base`, the host's own system, and the description says so.
Names follow what their publishers call them (Amazon, Canonical, Debian); ids that are not from AWS's own examples are
made from the name, the same in every region and every cloud.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from minicloud.compute.model import Image

AMAZON, CANONICAL, DEBIAN = "137112412989", "099720109477", "136693071363"
_ALIASES = {AMAZON: "amazon"}
_NOTE = "minicloud's base image, the host's own system, under the name of a public one"
_ARCH = {"x86_64": "amd64", "arm64": "arm64"}


@dataclass(frozen=True, slots=True)
class PublicImage:
    """`parameters`: the SSM parameters whose value is its id."""

    image: Image
    owner: str
    root_device: str
    parameters: tuple[str, ...] = ()

    @property
    def owner_alias(self) -> str:
        return _ALIASES.get(self.owner, "")


@dataclass(frozen=True, slots=True)
class _Line:
    """A product of a publisher. In its texts `{arch}` is x86_64, `{deb}` is amd64 for the same."""

    name: str
    owner: str
    created: float
    root_device: str
    parameters: tuple[str, ...]


_LATEST = "/aws/service/ami-amazon-linux-latest/"
_UBUNTU = "/aws/service/canonical/ubuntu/server/"
_LINES = (
    _Line(
        "al2023-ami-2023.6.20241121.0-kernel-6.1-{arch}",
        AMAZON,
        1732147200.0,
        "/dev/xvda",
        (f"{_LATEST}al2023-ami-kernel-default-{{arch}}", f"{_LATEST}al2023-ami-kernel-6.1-{{arch}}"),
    ),
    _Line(
        "al2023-ami-minimal-2023.6.20241121.0-kernel-6.1-{arch}",
        AMAZON,
        1732147200.0,
        "/dev/xvda",
        (
            f"{_LATEST}al2023-ami-minimal-kernel-default-{{arch}}",
            f"{_LATEST}al2023-ami-minimal-kernel-6.1-{{arch}}",
        ),
    ),
    _Line(
        "amzn2-ami-hvm-2.0.20241113.1-{arch}-gp2",
        AMAZON,
        1731456000.0,
        "/dev/xvda",
        (f"{_LATEST}amzn2-ami-hvm-{{arch}}-gp2", f"{_LATEST}amzn2-ami-hvm-{{arch}}-ebs"),
    ),
    _Line(
        "amzn2-ami-kernel-5.10-hvm-2.0.20241113.1-{arch}-gp2",
        AMAZON,
        1731456000.0,
        "/dev/xvda",
        (f"{_LATEST}amzn2-ami-kernel-5.10-hvm-{{arch}}-gp2",),
    ),
    _Line(
        "ubuntu/images/hvm-ssd/ubuntu-focal-20.04-{deb}-server-20241112",
        CANONICAL,
        1731369600.0,
        "/dev/sda1",
        (f"{_UBUNTU}20.04/stable/current/{{deb}}/hvm/ebs-gp2/ami-id",),
    ),
    _Line(
        "ubuntu/images/hvm-ssd/ubuntu-jammy-22.04-{deb}-server-20241120",
        CANONICAL,
        1732060800.0,
        "/dev/sda1",
        (f"{_UBUNTU}22.04/stable/current/{{deb}}/hvm/ebs-gp2/ami-id",),
    ),
    _Line(
        "ubuntu/images/hvm-ssd-gp3/ubuntu-noble-24.04-{deb}-server-20241119",
        CANONICAL,
        1731974400.0,
        "/dev/sda1",
        (f"{_UBUNTU}24.04/stable/current/{{deb}}/hvm/ebs-gp3/ami-id",),
    ),
    _Line(
        "debian-12-{deb}-20241110-1927",
        DEBIAN,
        1731196800.0,
        "/dev/xvda",
        ("/aws/service/debian/release/12/latest/{deb}",),
    ),
)
# Ids that AWS's own documentation and many tutorials launch: all x86_64, most of them of us-east-1.
_TUTORIAL_IDS = (
    "ami-0abcdef1234567890",
    "ami-1234567890abcdef0",
    "ami-0c55b159cbfafe1f0",
    "ami-0c02fb55956c7d316",
    "ami-0ff8a91507f77f867",
    "ami-0b5eea76982371e91",
    "ami-0cff7528ff583bf9a",
    "ami-090fa75af13c156b4",
    "ami-05fa00d4c63e32376",
    "ami-06ca3ca175f37dd66",
    "ami-022e1a32d3f742bd8",
    "ami-0230bd60aa48260c6",
    "ami-0fc5d935ebf8bc3bc",
    "ami-0c7217cdde317cfec",
    "ami-04b70fa74e45c3917",
    "ami-04a81a99f5ec58529",
    "ami-0e86e20dae9224db8",
    "ami-0866a3c8686eaeeba",
    "ami-00874d747dde814fa",
    "ami-0557a15b87f6559cf",
    "ami-053b0d53c279acc90",
    "ami-0261755bbcb8c4a84",
    "ami-0dfcb1ef8550277af",
    "ami-830c94e3",
)


def _image(image_id: str, name: str, arch: str, created: float) -> Image:
    return Image(
        id=image_id,
        account="",
        region="",
        name=name,
        state="available",
        created=created,
        arch=arch,
        description=_NOTE,
        builtin=True,
    )


def _made(line: _Line, arch: str) -> PublicImage:
    words = {"arch": arch, "deb": _ARCH[arch]}
    name = line.name.format(**words)
    image_id = "ami-" + hashlib.sha256(name.encode()).hexdigest()[:17]
    parameters = tuple(one.format(**words) for one in line.parameters)
    return PublicImage(_image(image_id, name, arch, line.created), line.owner, line.root_device, parameters)


def _of_tutorials(image_id: str) -> PublicImage:
    return PublicImage(_image(image_id, f"example/{image_id}", "x86_64", 0.0), AMAZON, "/dev/xvda")


_ALL = [_made(line, arch) for line in _LINES for arch in _ARCH]
PUBLIC: dict[str, PublicImage] = {one.image.id: one for one in [*_ALL, *map(_of_tutorials, _TUTORIAL_IDS)]}
PARAMETERS: dict[str, str] = {path: one.image.id for one in _ALL for path in one.parameters}


def find(image_id: str) -> Image | None:
    """By id alone: a name of a user's own image may be the same."""
    known = PUBLIC.get(image_id)
    return None if known is None else known.image
