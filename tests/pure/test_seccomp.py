"""The filter is run by an interpreter of classic BPF, a dumb twin of the kernel's."""

from __future__ import annotations

import errno
import re
import struct
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minicloud.sandbox import seccomp

MACHINES = seccomp.architectures()
ALLOW = ("allow", 0)
KILL = ("kill", 0)


@cache
def decoded(machine: str) -> list[tuple[int, int, int, int]]:
    return list(struct.iter_unpack("<HBBI", seccomp.program(machine)))


def verdict(machine: str, number: int, *args: int, arch: int | None = None) -> tuple[str, int]:
    """What the kernel would do with this call: ("allow" | "errno" | "kill", errno)."""
    arch = seccomp.AUDIT_ARCH[machine] if arch is None else arch
    padded = [*args, 0, 0, 0, 0, 0, 0][:6]
    data = struct.pack("<iIQ6Q", struct.unpack("<i", struct.pack("<I", number))[0], arch, 0, *padded)
    accumulator = at = 0
    while True:
        op, jt, jf, k = decoded(machine)[at]
        at += 1
        if op == 0x20:
            (accumulator,) = struct.unpack_from("<I", data, k)
        elif op == 0x06:
            action = {0x7FFF0000: "allow", 0x00050000: "errno", 0x80000000: "kill"}[k & 0xFFFF0000]
            return action, k & 0xFFFF
        else:
            hit = {0x15: accumulator == k, 0x35: accumulator >= k, 0x45: bool(accumulator & k)}[op]
            at += jt if hit else jf


@pytest.mark.parametrize("machine", MACHINES)
def test_every_denied_call_ends_with_eperm(machine: str) -> None:
    for name, number in seccomp.denied_numbers(machine).items():
        assert verdict(machine, number) == ("errno", errno.EPERM), name


@pytest.mark.parametrize("machine", MACHINES)
@given(number=st.integers(0, 600), arg=st.integers(0, 2**64 - 1))
def test_what_is_not_named_runs(machine: str, number: int, arg: int) -> None:
    clone, clone3, socket, ioctl, _ = numbers(machine)
    if number in {*seccomp.denied_numbers(machine).values(), clone, clone3, socket, ioctl}:
        return
    assert verdict(machine, number, arg, arg) == ALLOW


@pytest.mark.parametrize("machine", MACHINES)
@given(flags=st.integers(0, 2**64 - 1))
def test_clone_may_not_make_namespaces(machine: str, flags: int) -> None:
    expected = ("errno", errno.EPERM) if flags & seccomp.CLONE_NEW_FLAGS else ALLOW
    assert verdict(machine, numbers(machine)[0], flags) == expected


@pytest.mark.parametrize("machine", MACHINES)
def test_clone3_is_absent_so_that_libc_takes_clone(machine: str) -> None:
    assert verdict(machine, numbers(machine)[1]) == ("errno", errno.ENOSYS)


@pytest.mark.parametrize("machine", MACHINES)
@given(family=st.integers(0, 60), high=st.integers(0, 2**32 - 1))
def test_socket_families_are_a_list_of_allowed_ones(machine: str, family: int, high: int) -> None:
    expected = ALLOW if family in seccomp.SOCKET_FAMILIES else ("errno", errno.EAFNOSUPPORT)
    assert verdict(machine, numbers(machine)[2], family | high << 32) == expected


@pytest.mark.parametrize("machine", MACHINES)
def test_typing_into_a_terminal_is_denied_other_ioctls_run(machine: str) -> None:
    tiocsti, tiocgwinsz, above_32_bits = 0x5412, 0x5413, 1 << 40 | 0x5412
    assert verdict(machine, numbers(machine)[3], 0, tiocsti) == ("errno", errno.EPERM)
    assert verdict(machine, numbers(machine)[3], 0, above_32_bits) == ("errno", errno.EPERM)
    assert verdict(machine, numbers(machine)[3], 0, tiocgwinsz) == ALLOW


@pytest.mark.parametrize("machine", MACHINES)
def test_another_architecture_is_killed(machine: str) -> None:
    i386 = 0x40000003
    assert verdict(machine, numbers(machine)[4], arch=i386) == KILL


@given(number=st.integers(0x40000000, 0xFFFFFFFF))
def test_x32_numbers_are_absent(number: int) -> None:
    assert verdict("x86_64", number) == ("errno", errno.ENOSYS)


@pytest.mark.parametrize("machine", MACHINES)
def test_the_kernel_would_load_it(machine: str) -> None:
    program = seccomp.instructions(machine)
    assert 0 < len(program) <= 4096
    jumps = [(at, instruction) for at, instruction in enumerate(program) if instruction.code & 0x07 == 0x05]
    for at, instruction in jumps:
        assert at + 1 + max(instruction.jt, instruction.jf) < len(program), "a jump leaves the program"
    assert program[-1].code == 0x06, "a program must end with a return"


def test_numbers_are_those_of_the_kernel_headers() -> None:
    headers = {
        "x86_64": ("/usr/include/x86_64-linux-gnu/asm/unistd_64.h", r"#define __NR_(\w+)\s+(\d+)"),
        "aarch64": ("/usr/include/asm-generic/unistd.h", r"#define __NR(?:3264)?_(\w+)\s+(\d+)"),
    }
    missing = [path for path, _ in headers.values() if not Path(path).exists()]
    if missing:
        pytest.skip(f"no kernel headers here: {missing[0]}")
    for machine, (path, pattern) in headers.items():
        known = {name: int(number) for name, number in re.findall(pattern, Path(path).read_text())}
        for name, number in seccomp.denied_numbers(machine).items():
            assert known.get(name, number) == number, (machine, name)


def test_an_unknown_machine_is_refused() -> None:
    with pytest.raises(ValueError, match="no seccomp table for riscv64"):
        seccomp.program("riscv64")


def numbers(machine: str) -> tuple[int, int, int, int, int]:
    """clone, clone3, socket, ioctl, read."""
    return {"x86_64": (56, 435, 41, 16, 0), "aarch64": (220, 435, 198, 29, 63)}[machine]
