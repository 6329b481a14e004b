"""User data: what a launch hands a guest to run once, parsed and checked before anything is created.

    first line #!...            Script: any interpreter; run once, at the first boot
    first line #cloud-config    CloudConfig: YAML of the keys below, and no other
    anything else               Plain: not run, served by the metadata service, as EC2 treats what it does not know

    hostname      text
    write_files   list of {path (absolute), content, permissions ('0644'), owner (root or root:root), append,
                  encoding (text/plain, b64 or base64)}; written before runcmd, in order; directories are made
    runcmd        list of lines for /bin/sh, or lists of words; run in order as one script, whose last code counts

The rest of cloud-init is refused, by name, and so are its other formats (MIME parts, #include, jinja templates, ...): a
key that is silently ignored would be a server that silently lacks something. `packages` has a text of its own.
Aliases are refused: a page of YAML can blow up to gigabytes with them. Source: cloud-init "User data formats", modules
cc_write_files and cc_runcmd.
"""

from __future__ import annotations

import base64
import binascii
import re
import shlex
from dataclasses import dataclass
from typing import Any

import yaml

from minicloud.base.errors import CloudError, InvalidParameterValue, UnsupportedOperation
from minicloud.base.limits import USER_DATA_BYTES_MAX

FIELD = "user_data"
CLOUD_CONFIG = "#cloud-config"
MODE_DEFAULT = 0o644
DEPTH_MAX = 16  # what is supported needs four
_FOREIGN = (
    ("Content-Type:", "MIME multipart"),
    ("MIME-Version:", "MIME multipart"),
    ("#include", "#include"),
    ("#cloud-boothook", "#cloud-boothook"),
    ("#cloud-config-archive", "#cloud-config-archive"),
    ("#cloud-config-jsonp", "#cloud-config-jsonp"),
    ("#part-handler", "#part-handler"),
    ("#upstart-job", "#upstart-job"),
    ("## template:", "jinja templates"),
)
_HOSTNAME = re.compile(r"(?=.{1,64}$)[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?)*")
_KEYS = ("write_files", "runcmd", "hostname")
_FILE_KEYS = ("path", "content", "permissions", "owner", "append", "encoding")
_BASE64 = ("b64", "base64")
_ENCODINGS = ("text/plain", *_BASE64)
_REASONS = {
    "packages": "packages cannot be installed by user data: guests share the host's read-only /usr; "
    "use an image that has them, or install into the home directory with runcmd",
}


@dataclass(frozen=True, slots=True)
class Script:
    """`text` starts with #!."""

    text: str


@dataclass(frozen=True, slots=True)
class WriteFile:
    """`mode`: permission bits. `append`: to what is there."""

    path: str
    content: bytes
    mode: int = MODE_DEFAULT
    append: bool = False


@dataclass(frozen=True, slots=True)
class CloudConfig:
    """`script`: runcmd as one script for /bin/sh, or ''. `hostname` '': the instance's own."""

    write_files: tuple[WriteFile, ...] = ()
    script: str = ""
    hostname: str = ""


@dataclass(frozen=True, slots=True)
class Plain:
    """Nothing to run."""


UserData = Script | CloudConfig | Plain


def parse(text: str) -> UserData:
    """Raises InvalidParameterValue or UnsupportedOperation, `field` user_data, with what is wrong and where."""
    if len(text.encode("utf-8", "surrogatepass")) > USER_DATA_BYTES_MAX:
        raise _wrong(f"user data is limited to {USER_DATA_BYTES_MAX} bytes")
    if "\0" in text:
        raise _wrong("user data must be text; it has a NUL character")
    first = text.split("\n", 1)[0]
    if first.startswith("#!"):
        if not first[2:].strip():
            raise _wrong("the first line of a script must name its interpreter, as in '#!/bin/sh'")
        return Script(text.replace("\r\n", "\n"))
    if first.rstrip() == CLOUD_CONFIG:
        return _cloud_config(text)
    for start, name in _FOREIGN:
        if first.lower().startswith(start.lower()):
            raise _unsupported(f"user data of the form {name} is not supported: use a script or {CLOUD_CONFIG}")
    return Plain()


def check(text: str) -> None:
    """`parse` for those who want the errors only."""
    parse(text)


def boot_form(text: str) -> dict[str, Any] | None:
    """What boot.json holds (see `minicloud_workers.init`); what cannot be run becomes a refusal with its reason."""
    if not text:
        return None
    try:
        data = parse(text)
    except CloudError as error:
        return {"kind": "refused", "reason": error.message}
    if isinstance(data, Script):
        return {"kind": "script", "text": data.text}
    if isinstance(data, Plain):
        return {"kind": "plain"}
    files = [
        {"path": one.path, "content": base64.b64encode(one.content).decode(), "mode": one.mode, "append": one.append}
        for one in data.write_files
    ]
    return {"kind": "cloud-config", "hostname": data.hostname, "write_files": files, "script": data.script}


# libyaml where PyYAML was built with it, as its wheels are: twenty times faster, and launches wait for this.
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def _load(text: str) -> object:
    """Without aliases and of bounded depth, both checked before anything is built. Raises what PyYAML raises."""
    depth = 0
    for event in yaml.parse(text, Loader=_LOADER):
        if isinstance(event, yaml.AliasEvent):
            raise _unsupported("YAML aliases (*name) are not supported in user data")
        if isinstance(event, (yaml.MappingStartEvent, yaml.SequenceStartEvent)):
            depth += 1
            if depth > DEPTH_MAX:
                raise _wrong(f"{CLOUD_CONFIG} is nested more than {DEPTH_MAX} levels deep")
        elif isinstance(event, (yaml.MappingEndEvent, yaml.SequenceEndEvent)):
            depth -= 1
    document: object = yaml.load(text, _LOADER)
    return document


def _cloud_config(text: str) -> CloudConfig:
    try:
        document = _load(text)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f" in line {mark.line + 1}" if mark is not None else ""
        raise _wrong(f"{CLOUD_CONFIG} is not valid YAML{where}: {error.problem}") from None
    except (yaml.YAMLError, ValueError, TypeError, AttributeError, RecursionError, OverflowError) as error:
        raise _wrong(f"{CLOUD_CONFIG} is not valid YAML: {type(error).__name__}") from None
    if document is None:
        return CloudConfig()
    if not isinstance(document, dict):
        raise _wrong(f"{CLOUD_CONFIG} must be a mapping of keys")
    for key in document:
        if key not in _KEYS:
            name = _shown(key)
            raise _unsupported(_REASONS.get(name, f"the key '{name}' is not supported; supported: {', '.join(_KEYS)}"))
    return CloudConfig(
        write_files=tuple(_file(item, number) for number, item in enumerate(_list(document, "write_files"))),
        script=_script(_list(document, "runcmd")),
        hostname=_hostname(document.get("hostname")),
    )


def _list(document: dict[Any, Any], key: str) -> list[Any]:
    value = document.get(key)
    if value is None:
        return []
    if not isinstance(value, list):
        raise _wrong(f"{key} must be a list")
    return value


def _file(item: object, number: int) -> WriteFile:
    where = f"write_files[{number}]"
    if not isinstance(item, dict):
        raise _wrong(f"{where} must be a mapping")
    for key in item:
        if key not in _FILE_KEYS:
            raise _unsupported(f"{where}: the key '{_shown(key)}' is not supported; supported: {', '.join(_FILE_KEYS)}")
    path = item.get("path")
    if not isinstance(path, str) or not path.startswith("/") or path.endswith("/") or ".." in path.split("/"):
        raise _wrong(f"{where}.path must be the absolute path of a file, without '..'")
    if item.get("owner", "root") not in ("root", "root:root"):
        raise _unsupported(f"{where}.owner must be root: a guest has no other user")
    append = item.get("append", False)
    if not isinstance(append, bool):
        raise _wrong(f"{where}.append must be true or false")
    return WriteFile(path, _content(item, where), _mode(item.get("permissions"), where), append)


def _content(item: dict[Any, Any], where: str) -> bytes:
    content, encoding = item.get("content", ""), item.get("encoding", "text/plain")
    if not isinstance(content, (str, bytes)):
        raise _wrong(f"{where}.content must be text; put it in quotes")
    if encoding not in _ENCODINGS:
        raise _unsupported(f"{where}.encoding must be one of {', '.join(_ENCODINGS)}")
    raw = content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass")
    if encoding not in _BASE64:
        return raw
    try:
        return base64.b64decode(b"".join(raw.split()), validate=True)
    except (binascii.Error, ValueError):
        raise _wrong(f"{where}.content is not base64") from None


def _mode(value: object, where: str) -> int:
    """Text is read as octal; an unquoted 0644 was read as octal by YAML already."""
    if value is None:
        return MODE_DEFAULT
    mode = -1
    if isinstance(value, str) and re.fullmatch(r"(0o?)?[0-7]{3,4}", value):
        mode = int(value.removeprefix("0o"), 8)
    elif isinstance(value, int) and not isinstance(value, bool):
        mode = value
    if not 0 <= mode <= 0o7777:
        raise _wrong(f"{where}.permissions must be octal digits in quotes, as in '0644'")
    return mode


def _script(commands: list[Any]) -> str:
    lines = [_line(command, number) for number, command in enumerate(commands)]
    return "\n".join(["#!/bin/sh", *lines, ""]) if lines else ""


def _line(command: object, number: int) -> str:
    if isinstance(command, str):
        return command
    if isinstance(command, list) and command and all(isinstance(word, (str, int, float)) for word in command):
        return shlex.join(str(word) for word in command)
    raise _wrong(f"runcmd[{number}] must be a line of text or a list of words")


def _hostname(value: object) -> str:
    if value is None:
        return ""
    if not isinstance(value, str) or not _HOSTNAME.fullmatch(value):
        raise _wrong("hostname must be letters, digits and inner hyphens, at most 64 characters")
    return value


def _shown(key: object) -> str:
    return key[:64] if isinstance(key, str) else type(key).__name__


def _wrong(message: str) -> InvalidParameterValue:
    return InvalidParameterValue(message, field=FIELD)


def _unsupported(message: str) -> UnsupportedOperation:
    return UnsupportedOperation(message, field=FIELD)
