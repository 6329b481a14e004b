"""What this machine has for functions: interpreters, the base that a zygote builds, and what is in the environment."""

from __future__ import annotations

import base64
import os
import platform
import re
import shutil
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from minicloud.function.ports import EnvironmentSpec
from minicloud.sandbox import bwrap, disk, seccomp
from minicloud.sandbox.plan import PythonPrefix, workers_package

PYTHONS = ("3.11", "3.12", "3.13", "3.14")
PROVIDED = ("provided", "provided.al2", "provided.al2023")
_ASK_S_MAX = 10.0
_SELF = (  # what a zygote needs beside this is in the standard library of every build that has ctypes
    "import ctypes, os, sys; print(os.path.realpath(sys.executable)); print(sys.base_prefix); "
    "print('%d.%d' % sys.version_info[:2])"
)
_ETC = ("services", "protocols", "localtime", "nsswitch.conf")
# What handlers usually import; an environment has them by being forked.
PRELOAD = (
    *(
        "argparse",
        "ast",
        "asyncio",
        "base64",
        "bisect",
        "calendar",
        "collections.abc",
        "concurrent.futures",
        "contextlib",
    ),
    *("copy", "csv", "dataclasses", "datetime", "decimal", "email.message", "email.utils", "enum", "fractions"),
    *("functools", "gzip", "hashlib", "heapq", "hmac", "http.client", "inspect", "io", "itertools", "json", "logging"),
    *(
        "math",
        "operator",
        "pathlib",
        "pickle",
        "queue",
        "random",
        "re",
        "secrets",
        "shutil",
        "socket",
        "ssl",
        "statistics",
    ),
    *("string", "struct", "subprocess", "tempfile", "textwrap", "threading", "time", "traceback", "types", "typing"),
    *(
        "unicodedata",
        "urllib.parse",
        "urllib.request",
        "uuid",
        "warnings",
        "weakref",
        "xml.etree.ElementTree",
        "zipfile",
    ),
    *("zlib", "zoneinfo", "encodings.idna", "encodings.latin_1", "encodings.ascii"),
)


@dataclass(frozen=True, slots=True)
class Interpreter:
    """`executable`: the real file. `prefix`: the directory that must be visible for it, "" below /usr."""

    executable: str
    prefix: str


def pythons() -> dict[str, Interpreter]:
    """{"3.11": ...}: this process's own, and what else the PATH leads to. Runs each once."""
    own = PythonPrefix.current()
    found = {platform.python_version().rpartition(".")[0]: Interpreter(own.executable, _outside(own.directories))}
    for version in PYTHONS:
        path = shutil.which(f"python{version}")
        if path is not None and version not in found:
            interpreter = _ask(path, version)
            if interpreter is not None:
                found[version] = interpreter
    return found


def _outside(directories: Iterable[str]) -> str:
    return next(iter(directories), "")


def _ask(path: str, version: str) -> Interpreter | None:
    """None: it does not run, or is another one than its name says (a shim)."""
    try:
        done = subprocess.run(
            [path, "-I", "-S", "-c", _SELF], capture_output=True, text=True, timeout=_ASK_S_MAX, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    executable, prefix, said = (*done.stdout.split("\n"), "", "", "")[:3]
    prefix = os.path.realpath(prefix)
    return Interpreter(executable, "" if _below(prefix, "/usr") else prefix) if said == version else None


def node() -> Interpreter | None:
    path = shutil.which("node")
    if path is None:
        return None
    path = os.path.realpath(path)
    return Interpreter(path, "" if _below(path, "/usr") else os.path.dirname(os.path.dirname(path)))


def node_version(interpreter: Interpreter) -> str:
    """The major number, "" where it does not say."""
    try:
        done = subprocess.run(
            [interpreter.executable, "--version"], capture_output=True, text=True, timeout=_ASK_S_MAX, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    match = re.match(r"v([0-9]+)\.", done.stdout)
    return match[1] if match else ""


def zygote_config(store: Path, work: Path, prefixes: Iterable[str], *, isolated: bool) -> dict[str, Any]:
    """The first packet to a zygote. `prefixes`: of interpreters outside /usr, which environments shall see."""
    readonly = [
        ("/usr", "/usr"),
        *((f"/{name}", f"/{name}") for name in bwrap.TOP_LEVEL if _is_real_directory(f"/{name}")),
        *((path, path) for path in bwrap.HOST_ETC if os.path.exists(path)),
        *((f"/etc/{name}", f"/etc/{name}") for name in _ETC if os.path.isfile(f"/etc/{name}")),
        *((path, path) for path in dict.fromkeys(prefixes) if path),
        (str(workers_package()), "/var/runtime/minicloud_workers"),
    ]
    etc = {
        "passwd": "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n",
        "group": "root:x:0:\nnogroup:x:65534:\n",
        "hosts": "127.0.0.1 localhost function minicloud.internal\n",
        "resolv.conf": "".join(f"nameserver {server}\n" for server in disk.nameservers()),
    }
    machine = platform.machine()
    known = machine in seccomp.architectures()
    return {
        "isolated": isolated and known,
        "is_root": os.geteuid() == 0,
        "work": str(work),
        "store": str(store),
        "links": bwrap.top_level_links(),
        "etc": etc,
        "binds": readonly,
        "seccomp": base64.b64encode(seccomp.program(machine) if known else b"").decode(),
        "preload": PRELOAD,
    }


def environment(spec: EnvironmentSpec, paths: Mapping[str, str], extra: Mapping[str, str]) -> dict[str, str]:
    """What a runtime starts with. `paths`: of the environment. The user's own variables cannot replace reserved ones.

    https://docs.aws.amazon.com/lambda/latest/dg/configuration-envvars.html
    """
    task, opt, runtime = paths["task"], paths["opt"], paths["runtime"]
    usual = {
        "PATH": f"/usr/local/bin:/usr/bin:/bin:{opt}/bin",
        "LD_LIBRARY_PATH": f"/lib64:/usr/lib64:{runtime}:{runtime}/lib:{task}:{task}/lib:{opt}/lib",
        "LANG": "en_US.UTF-8" if os.path.isdir("/usr/lib/locale/en_US.utf8") else "C.UTF-8",
        "TZ": ":UTC",
        "PYTHONPATH": runtime,
        "NODE_PATH": f"{opt}/nodejs/node_modules:{runtime}/node_modules:{runtime}:{task}",
        "HOME": paths["tmp"],
        "TMPDIR": paths["tmp"],
        **extra,
    }
    region = spec.scope.region
    reserved = {
        "_HANDLER": spec.handler,
        "AWS_REGION": region,
        "AWS_DEFAULT_REGION": region,
        "AWS_EXECUTION_ENV": f"AWS_Lambda_{spec.runtime}",
        "AWS_LAMBDA_FUNCTION_NAME": spec.name,
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(spec.memory_mib),
        "AWS_LAMBDA_FUNCTION_VERSION": spec.version,
        "AWS_LAMBDA_INITIALIZATION_TYPE": paths["initialization"],
        "AWS_LAMBDA_LOG_GROUP_NAME": spec.log.group,
        "AWS_LAMBDA_LOG_STREAM_NAME": paths["stream"],
        "AWS_LAMBDA_LOG_FORMAT": spec.log.format,
        "AWS_LAMBDA_RUNTIME_API": paths["api"],
        "LAMBDA_TASK_ROOT": task,
        "LAMBDA_RUNTIME_DIR": runtime,
    }
    if spec.log.application_level:
        reserved["AWS_LAMBDA_LOG_LEVEL"] = spec.log.application_level
    return {**usual, **dict(spec.env), **reserved}


def _is_real_directory(path: str) -> bool:
    return os.path.isdir(path) and not os.path.islink(path)


def _below(path: str, directory: str) -> bool:
    return os.path.commonpath((path, directory)) == directory
