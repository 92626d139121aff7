"""What figures were measured on: the device, its driver, and the libraries."""

import platform
import re
import subprocess
from importlib.metadata import PackageNotFoundError, version

import torch


def about(device: str) -> dict[str, str]:
    """The device and its driver, and versions, in words."""
    return {"device": _gpu() if device == "cuda" and torch.cuda.is_available() else _host(), "versions": _versions()}


def _host() -> str:
    from infergc.bench.machine import machine

    return machine()


def no_device(device: str) -> str:
    """Why the device that is asked for cannot be used; "" if it can."""
    if device == "cpu" or torch.cuda.is_available():
        return ""
    built = "for the CPU" if torch.version.cuda is None else f"for CUDA {torch.version.cuda}"
    return f"torch, built {built}, finds no NVIDIA GPU here"


def _gpu() -> str:
    found = torch.cuda.get_device_properties(0)
    major, minor = torch.cuda.get_device_capability(0)
    size = found.total_memory / 2**30
    return f"{found.name}, {size:.0f} GiB, compute capability {major}.{minor}, driver {_driver()}"


def _versions() -> str:
    parts = [f"Python {platform.python_version()}", f"torch {torch.__version__}", f"CUDA {torch.version.cuda}"]
    parts.append(f"nvcc {_told(['nvcc', '--version'], r'release ([0-9.]+)')}")
    return ", ".join([*parts, *(f"{name} {_installed(name)}" for name in ("triton", "transformers", "numpy"))])


def _driver() -> str:
    return _told(["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"], r"([0-9.]+)")


def _told(command: list[str], pattern: str) -> str:
    """What a program says, where it is there and says it."""
    try:
        said = subprocess.run(command, capture_output=True, text=True, check=False, timeout=20).stdout
    except (OSError, subprocess.TimeoutExpired):
        return "not found"
    match = re.search(pattern, said)
    return match[1] if match else "unknown"


def _installed(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"
