"""The driver without isolation: a plain process tree, for machines where nothing better is allowed.

The guest sees the host's files and processes as the user who runs the cloud. It has a home and a working directory of
its own, its own session, and limits: by control group where one is writable, else by rlimits (which hold per process).
It ends with its parent; what it has put into sessions of its own is ended through the control group, or not at all
where there is none. `WARNING` is shown wherever this driver is used.
"""

from __future__ import annotations

import os

from minicloud.sandbox.plan import (
    PROCESS,
    GuestLayout,
    LaunchPlan,
    PythonPrefix,
    SandboxSpec,
    common_rlimits,
    guest_env,
    standin_rlimits,
)

WARNING = (
    "guests run as plain processes: they see this machine's files and processes and can disturb one another; "
    "do not run code that you do not trust"
)
# Asks for SIGKILL when the spawning thread ends, then becomes the guest. argv: the parent's pid is checked, because it
# may have died before we asked.
_DIE_WITH_PARENT = (
    "import ctypes,os,signal,sys\n"
    "parent=os.getppid()\n"
    "if ctypes.CDLL(None).prctl(1,int(signal.SIGKILL),0,0,0)!=0 or os.getppid()!=parent or parent==1: os._exit(125)\n"
    "os.execvp(sys.argv[1],sys.argv[1:])\n"
)


def layout(spec_disk_root: str, control_dir: str, workers_dir: str, python: PythonPrefix) -> GuestLayout:
    """Where a guest of this driver finds things: where the host has them."""
    return GuestLayout(
        python=python.executable,
        workers=os.path.dirname(workers_dir),
        control=control_dir,
        home=os.path.join(spec_disk_root, "root"),
    )


def build(spec: SandboxSpec, python: PythonPrefix) -> LaunchPlan:
    """The plan for one guest."""
    where = layout(str(spec.disk_root), str(spec.control_dir), str(spec.workers_dir), python)
    rlimits = common_rlimits(spec)
    if not spec.cgroup_files:
        rlimits += standin_rlimits(spec, is_root=os.geteuid() == 0)
    return LaunchPlan(
        instance_id=spec.instance_id,
        driver=PROCESS,
        argv=[python.executable, "-I", "-S", "-c", _DIE_WITH_PARENT, *spec.init],
        env={"TMPDIR": str(spec.disk_root / "tmp"), **guest_env(where, spec)},
        cwd=str(spec.disk_root),
        console=str(spec.console),
        join=list(spec.cgroup_files),
        netns=spec.netns,
        rlimits=rlimits,
    )
