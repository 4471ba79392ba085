"""bfloat16 where a processor or a GPU gains by it; where it is emulated it is far slower than fp32.

Intel's processors without AMX have bf16 products and gain nothing by them: DenseNet-121's frozen layers took 67 ms a
film in bf16 there and 49 in fp32, MobileNetV2's about the same in both (docs/benchmarks.md, "Two-stage transfer where
bf16 gains nothing"). With AMX they took less than half (the section before it).
"""

from pathlib import Path
from typing import Literal

import torch

Precision = Literal["fp32", "bf16"]
"""What frozen layers are computed in. bf16 has the range of fp32 and 8 significant bits; sums are kept in fp32."""

Wanted = Literal["auto", "fp32", "bf16"]
"""``auto`` is bf16 where the processor or the GPU gains by it, else fp32."""

CPU_FLAGS = frozenset({"avx512_bf16", "amx_bf16", "bf16"})
"""Flags in ``/proc/cpuinfo`` of processors with bf16 products: AVX-512 and AMX on x86, ``bf16`` on Arm."""

INTEL = "GenuineIntel"
"""The vendor in ``/proc/cpuinfo``."""


def has_bf16(device: torch.device, *, cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Whether a device multiplies bf16 in hardware.

    Args:
        device: a CPU or a GPU.
        cpuinfo: where Linux says what its processors can do; False where there is no such file.
    """
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    cores = _flags(cpuinfo) if device.type == "cpu" else []
    return bool(cores) and all(CPU_FLAGS & one for one in cores)


def gains_by_bf16(device: torch.device, *, cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Whether a device multiplies faster in bf16 than in fp32; of Intel's processors, those with AMX.

    Args:
        device: a CPU or a GPU.
        cpuinfo: as for :func:`has_bf16`.
    """
    if not has_bf16(device, cpuinfo=cpuinfo):
        return False
    if device.type != "cpu" or INTEL not in cpuinfo.read_text():
        return True
    return all("amx_bf16" in one for one in _flags(cpuinfo))


def _flags(cpuinfo: Path) -> list[set[str]]:
    """What each core can do; nothing where there is no such file."""
    try:
        lines = cpuinfo.read_text().splitlines()
    except OSError:
        return []
    return [set(line.split(":", 1)[1].split()) for line in lines if line.lower().startswith(("flags", "features"))]


def prefix_precision(device: torch.device, wanted: Wanted = "auto") -> Precision:
    """What frozen layers are computed in: bf16 where that gains, unless one is asked for by name."""
    if wanted == "auto":
        return "bf16" if gains_by_bf16(device) else "fp32"
    return wanted
