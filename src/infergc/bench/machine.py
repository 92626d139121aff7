"""The machine that figures were measured on, in words."""

import os
import platform
from pathlib import Path

from infergc.engine.footprint import machine_memory
from infergc.units import format_bytes

_CPU_INFO = Path("/proc/cpuinfo")


def machine() -> str:
    """Its processor, the cores that this process may use, memory and system."""
    cores, memory = len(os.sched_getaffinity(0)), format_bytes(machine_memory())
    return f"{_processor()}, {cores} core{'s' * (cores > 1)}, {memory}, {platform.system()} {platform.machine()}"


def _processor() -> str:
    """Linux names it in a file; elsewhere the platform may."""
    if _CPU_INFO.is_file():
        for line in _CPU_INFO.read_text(encoding="utf-8", errors="replace").splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                return value.strip()
    return platform.processor() or "unnamed processor"
