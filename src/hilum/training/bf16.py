"""bfloat16 where a processor or a GPU computes it in hardware; elsewhere it is emulated, and far slower than fp32."""

from pathlib import Path
from typing import Literal

import torch

Precision = Literal["fp32", "bf16"]
"""What frozen layers are computed in. bf16 has the range of fp32 and 8 significant bits; sums are kept in fp32."""

Wanted = Literal["auto", "fp32", "bf16"]
"""``auto`` is bf16 where the processor or the GPU has it in hardware, else fp32."""

CPU_FLAGS = frozenset({"avx512_bf16", "amx_bf16", "bf16"})
"""Flags in ``/proc/cpuinfo`` of processors with bf16 products: AVX-512 and AMX on x86, ``bf16`` on Arm."""


def has_bf16(device: torch.device, *, cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Whether a device multiplies bf16 in hardware.

    Args:
        device: a CPU or a GPU.
        cpuinfo: where Linux says what its processors can do; False where there is no such file.
    """
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type != "cpu":
        return False
    try:
        lines = cpuinfo.read_text().splitlines()
    except OSError:
        return False
    flags = [line.split(":", 1)[1].split() for line in lines if line.lower().startswith(("flags", "features"))]
    return bool(flags) and all(CPU_FLAGS & set(one) for one in flags)


def prefix_precision(device: torch.device, wanted: Wanted = "auto") -> Precision:
    """What frozen layers are computed in: bf16 where it is in hardware, unless one is asked for by name."""
    if wanted == "auto":
        return "bf16" if has_bf16(device) else "fp32"
    return wanted
