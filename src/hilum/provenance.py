"""Where a result came from: hashes of files and data, and the environment it was computed in."""

import hashlib
import os
import platform
import subprocess
from collections.abc import Iterable
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

PACKAGES = ("hilum", "numpy", "scipy", "pydicom", "pynetdicom", "onnxruntime", "pillow", "torch", "torchvision", "onnx")

OTHER_NAMES = {"onnxruntime": "onnxruntime-gpu"}
"""Packages that come under another name as well: for a GPU, and then with the CPU's part in it."""


def sha256_bytes(content: bytes) -> str:
    """SHA-256 of bytes, 64 hex digits."""
    return hashlib.sha256(content).hexdigest()


def sha256_file(path: Path) -> str:
    """SHA-256 of a file's content, 64 hex digits."""
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def combined_hash(parts: Iterable[str]) -> str:
    """One SHA-256 over an ordered sequence of texts."""
    return sha256_bytes("\x1f".join(parts).encode())


def now_utc() -> str:
    """The time now, ISO 8601 in UTC to the second, such as ``2026-11-23T18:40:00Z``."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def environment() -> dict[str, Any]:
    """Packages, commit, Python and hardware: what ``environment.json`` of a run holds."""
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": processor(),
        "cpu_count": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "packages": {name: version for name in PACKAGES if (version := package_version(name))},
        "commit": _commit(),
    }


def package_version(name: str) -> str | None:
    """Version of a package, such as ``1.32.0``; under another name with that, ``1.31.1 (onnxruntime-gpu)``; or None."""
    other = OTHER_NAMES.get(name)
    found = _version(other) if other else None
    return _version(name) if found is None else f"{found} ({other})"


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def processor() -> str:
    """Name of this machine's processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def _commit() -> str | None:
    """Commit of the source tree that hilum runs from; None when installed from a wheel."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=5, check=True).stdout.strip() or None
    except (OSError, subprocess.SubprocessError):
        return None
