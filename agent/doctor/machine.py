"""The machine: judged from texts and numbers that the caller reads, so that a test can judge any machine."""

from __future__ import annotations

import os
import platform
import re
import sys
from pathlib import Path

from agent.doctor.finding import Finding, size
from agent.inference.runtime.ring import Ring

__all__ = ["cpu", "findings", "frame_memory", "libc", "memory", "python", "total_memory"]

_OLDEST_PYTHON = (3, 11)
_OLDEST_GLIBC = (2, 28)
_LEAST_MEMORY = 256 << 20

VECTORS = {"x86_64": "avx2", "aarch64": "asimd", "armv7l": "neon"}
"""The processor's flag without which the backends are slow, or their wheels do not start."""

_MEMINFO = Path("/proc/meminfo")
_CGROUP_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))


def findings() -> list[Finding]:
    """This machine."""
    cores = len(os.sched_getaffinity(0))
    return [
        python(sys.version_info[:3], platform.python_implementation(), sys.executable),
        libc(*platform.libc_ver()),
        cpu(platform.machine(), _text(Path("/proc/cpuinfo")), cores),
        memory(_text(_MEMINFO), _limit()),
        frame_memory(),
    ]


def python(version: tuple[int, ...], implementation: str, executable: str) -> Finding:
    """The interpreter of the core."""
    detail = f"{implementation} {'.'.join(map(str, version))}, {executable}"
    if version < _OLDEST_PYTHON or implementation != "CPython":
        return Finding.fail("python", detail, "use CPython 3.11 or later")
    return Finding.ok("python", detail)


def libc(name: str, version: str) -> Finding:
    """The C library that wheels are built for."""
    if name != "glibc":
        fix = "use a system with glibc (Debian, Ubuntu …): the backends' wheels are made for it"
        return Finding.warn("libc", f"{name or 'not glibc, perhaps musl'} {version}".rstrip(), fix)
    if tuple(int(part) for part in re.findall(r"\d+", version)[:2]) < _OLDEST_GLIBC:
        return Finding.warn("libc", f"glibc {version}", "upgrade the system: today's wheels ask for glibc 2.28")
    return Finding.ok("libc", f"glibc {version}")


def cpu(machine: str, cpuinfo: str, cores: int) -> Finding:
    """The processor and its vector instructions; ``cpuinfo`` is the text of ``/proc/cpuinfo``."""
    facts = {
        key.strip().lower(): value.strip() for key, _, value in (line.partition(":") for line in cpuinfo.splitlines())
    }
    name = facts.get("model name") or facts.get("model") or facts.get("hardware") or "unknown processor"
    flags = (facts.get("flags") or facts.get("features") or "").split()
    needed = VECTORS.get(machine)
    detail = f"{name}, {machine}, {cores} {'core' if cores == 1 else 'cores'}"
    if needed is None:
        return Finding.warn("cpu", detail, f"wheels are made for {', '.join(VECTORS)}: expect to build the backends")
    if needed in flags:
        return Finding.ok("cpu", f"{detail}, {needed}")
    return Finding.warn(
        "cpu", f"{detail}, without {needed}", "expect slow inference; in a virtual machine, pass the host's CPU through"
    )


def memory(meminfo: str, limit: str) -> Finding:
    """What can be used; ``limit`` is the text of the control group's limit, empty or ``max`` where there is none."""
    facts = _sizes(meminfo)
    if not {"MemTotal", "MemAvailable"} <= facts.keys():
        return Finding.warn("memory", "unknown: /proc/meminfo tells nothing", "look with the system's own tools")
    total, available = facts["MemTotal"], facts["MemAvailable"]
    detail = f"{size(available)} available of {size(total)}"
    if limit.strip().isdigit() and int(limit) < total:
        available = min(available, int(limit))
        detail += f", limited to {size(int(limit))}"
    if available < _LEAST_MEMORY:
        return Finding.warn("memory", detail, "end other programs, or raise the limit: a worker takes 100 to 200 MiB")
    return Finding.ok("memory", detail)


def total_memory() -> int | None:
    """What the machine has, or its control group allows, in bytes; None where neither tells."""
    total, limit = _sizes(_text(_MEMINFO)).get("MemTotal"), _limit().strip()
    allowed = int(limit) if limit.isdigit() else None
    return min((size for size in (total, allowed) if size is not None), default=None)


def frame_memory() -> Finding:
    """Whether the buffer that frames cross in can be made."""
    try:
        descriptor = Ring.create(1, 1 << 20)
        try:
            Ring(descriptor, 1, 1 << 20, writable=True).close()
        finally:
            os.close(descriptor)
    except OSError as error:
        fix = "allow memfd_create in the container's seccomp profile, or make the temporary folder writable"
        return Finding.fail("frame memory", f"cannot be made: {error.strerror}", fix)
    return Finding.ok("frame memory", "memfd" if hasattr(os, "memfd_create") else "a file in the temporary folder")


def _sizes(meminfo: str) -> dict[str, int]:
    return {key: int(kib) << 10 for key, kib in re.findall(r"^(\w+):\s+(\d+) kB", meminfo, re.MULTILINE)}


def _limit() -> str:
    return next((text for text in map(_text, _CGROUP_LIMITS) if text), "")


def _text(path: Path) -> str:
    """The file's text, empty where there is none: not every machine has every file."""
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""
