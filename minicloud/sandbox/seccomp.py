"""The system calls that a guest may not make, as a seccomp filter in classic BPF.

A deny-list: whatever is not named runs. Namespaces and dropped capabilities are the wall; this filter takes away
the parts of the kernel that a guest has no use for and that most escapes went through: tracing other processes,
BPF, io_uring, new namespaces, mounting, kernel keyrings, performance events, loading code, setting clocks, the
kernel log, and socket families other than unix, internet and netlink (vsock would reach the machine that hosts us).

The program, top to bottom (`struct seccomp_data` is: nr, arch, instruction pointer, six 64-bit arguments):

    1. the arch word is not ours                    -> kill: a 32-bit entry would give the numbers other meanings
    2. x32 bit set in the number (x86_64)           -> ENOSYS
    3. clone3                                       -> ENOSYS, libc falls back to clone, whose flags can be read
    4. clone with a CLONE_NEW* flag                 -> EPERM
    5. socket with a family that is not listed      -> EAFNOSUPPORT
    6. ioctl TIOCSTI, TIOCLINUX (typing into a tty) -> EPERM
    7. a denied number                              -> EPERM
    8. anything else                                -> allow

Numbers: the kernel's unistd tables. Sources for the choice: bubblewrap's and Docker's default profiles.
"""

from __future__ import annotations

import errno
import struct
from dataclasses import dataclass
from functools import cache

AUDIT_ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
X32_BIT = 0x40000000
CLONE_NEW_FLAGS = 0x7E020000  # NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET
SOCKET_FAMILIES = (
    1,
    2,
    10,
    16,
)  # unix, inet, inet6, netlink (getifaddrs needs it; it grants nothing without capabilities)
DENIED_IOCTLS = (0x5412, 0x541C)  # TIOCSTI, TIOCLINUX

RET_KILL_PROCESS = 0x80000000
RET_ERRNO = 0x00050000
RET_ALLOW = 0x7FFF0000

# name: (x86_64, aarch64); None where the architecture does not have it
DENIED: dict[str, tuple[int | None, int | None]] = {
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "process_madvise": (440, 440),
    "kcmp": (312, 272),
    "pidfd_getfd": (438, 438),
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "unshare": (272, 97),
    "setns": (308, 268),
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "open_tree": (428, 428),
    "open_tree_attr": (467, 467),
    "move_mount": (429, 429),
    "fsopen": (430, 430),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fspick": (433, 433),
    "mount_setattr": (442, 442),
    "keyctl": (250, 219),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "kexec_load": (246, 104),
    "kexec_file_load": (320, 294),
    "create_module": (174, None),
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "delete_module": (176, 106),
    "query_module": (178, None),
    "get_kernel_syms": (177, None),
    "reboot": (169, 142),
    "swapon": (167, 224),
    "swapoff": (168, 225),
    "open_by_handle_at": (304, 265),
    "fanotify_init": (300, 262),
    "quotactl": (179, 60),
    "quotactl_fd": (443, 443),
    "acct": (163, 89),
    "settimeofday": (164, 170),
    "clock_settime": (227, 112),
    "sethostname": (170, 161),
    "setdomainname": (171, 162),
    "syslog": (103, 116),
    "vhangup": (153, 58),
    "lookup_dcookie": (212, 18),
    "nfsservctl": (180, 42),
    "uselib": (134, None),
    "_sysctl": (156, None),
    "iopl": (172, None),
    "ioperm": (173, None),
}
_CLONE = (56, 220)
_CLONE3 = (435, 435)
_SOCKET = (41, 198)
_IOCTL = (16, 29)

_LD_W_ABS = 0x20
_JEQ_K = 0x15
_JGE_K = 0x35
_JSET_K = 0x45
_RET_K = 0x06
_OFFSET_NR = 0
_OFFSET_ARCH = 4
_OFFSET_ARG0 = 16  # low half: both architectures are little endian
_OFFSET_ARG1 = 24


@dataclass(frozen=True, slots=True)
class Instruction:
    """One `struct sock_filter`: opcode, jump if true, jump if false (instructions to skip), operand."""

    code: int
    jt: int
    jf: int
    k: int

    def pack(self) -> bytes:
        return struct.pack("<HBBI", self.code, self.jt, self.jf, self.k)


def architectures() -> tuple[str, ...]:
    """Machine names (as `platform.machine()` spells them) that a filter can be built for."""
    return tuple(AUDIT_ARCH)


def denied_numbers(machine: str) -> dict[str, int]:
    """Names and numbers of the calls that end with EPERM whatever their arguments are."""
    column = architectures().index(machine)
    return {name: number for name, row in DENIED.items() if (number := row[column]) is not None}


@cache
def program(machine: str) -> bytes:
    """The filter as an array of `struct sock_filter`, the form that `bwrap --seccomp FD` reads.

    Raises ValueError for a machine that `architectures()` does not list.
    """
    return b"".join(instruction.pack() for instruction in instructions(machine))


def instructions(machine: str) -> list[Instruction]:
    """The same filter, one object per instruction."""
    if machine not in AUDIT_ARCH:
        raise ValueError(f"no seccomp table for {machine}; there are tables for {', '.join(AUDIT_ARCH)}")
    column = architectures().index(machine)
    return [
        *_check_arch(machine),
        *_when(_CLONE3[column], [_errno(errno.ENOSYS)]),
        *_when(_CLONE[column], _clone_rule()),
        *_when(_SOCKET[column], _any_of(_OFFSET_ARG0, SOCKET_FAMILIES, _allow(), _errno(errno.EAFNOSUPPORT))),
        *_when(_IOCTL[column], _any_of(_OFFSET_ARG1, DENIED_IOCTLS, _errno(errno.EPERM), _allow())),
        *_deny_rest(sorted(denied_numbers(machine).values())),
    ]


def _check_arch(machine: str) -> list[Instruction]:
    lines = [
        _load(_OFFSET_ARCH),
        Instruction(_JEQ_K, 1, 0, AUDIT_ARCH[machine]),
        Instruction(_RET_K, 0, 0, RET_KILL_PROCESS),
        _load(_OFFSET_NR),
    ]
    if machine == "x86_64":
        lines += [Instruction(_JGE_K, 0, 1, X32_BIT), _errno(errno.ENOSYS)]
    return lines


def _when(number: int, body: list[Instruction]) -> list[Instruction]:
    """Run `body`, which always returns, for this call; the number stays loaded for the others."""
    return [Instruction(_JEQ_K, 0, len(body), number), *body]


def _clone_rule() -> list[Instruction]:
    return [
        _load(_OFFSET_ARG0),
        Instruction(_JSET_K, 0, 1, CLONE_NEW_FLAGS),
        _errno(errno.EPERM),
        _allow(),
    ]


def _any_of(offset: int, values: tuple[int, ...], hit: Instruction, miss: Instruction) -> list[Instruction]:
    tests = [Instruction(_JEQ_K, len(values) - i, 0, value) for i, value in enumerate(values)]
    return [_load(offset), *tests, miss, hit]


def _deny_rest(numbers: list[int]) -> list[Instruction]:
    tests = [Instruction(_JEQ_K, len(numbers) - i, 0, number) for i, number in enumerate(numbers)]
    assert len(tests) < 256, "a BPF jump reaches 255 instructions"
    return [*tests, _allow(), _errno(errno.EPERM)]


def _load(offset: int) -> Instruction:
    return Instruction(_LD_W_ABS, 0, 0, offset)


def _errno(number: int) -> Instruction:
    return Instruction(_RET_K, 0, 0, RET_ERRNO | number)


def _allow() -> Instruction:
    return Instruction(_RET_K, 0, 0, RET_ALLOW)
