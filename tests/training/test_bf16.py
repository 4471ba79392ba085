"""bf16 is taken where the hardware has it, and nowhere else."""

from pathlib import Path

import pytest
import torch

from hilum.training.bf16 import gains_by_bf16, has_bf16, prefix_precision

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("flags", "has"),
    [
        ("flags\t\t: fpu avx2 avx512f avx512_bf16", True),
        ("flags\t\t: fpu amx_bf16 amx_tile", True),
        ("Features\t: fp asimd bf16", True),
        ("flags\t\t: fpu avx2 avx512f", False),
        ("model name\t: avx512_bf16", False),
        ("flags\t\t: avx512_bf16\nflags\t\t: avx2", False),
    ],
)
def test_the_flags_of_every_core_must_name_it(tmp_path: Path, flags: str, has: bool) -> None:
    (tmp_path / "cpuinfo").write_text(f"processor\t: 0\n{flags}\n")
    assert has_bf16(CPU, cpuinfo=tmp_path / "cpuinfo") is has


@pytest.mark.parametrize(
    ("lines", "gains"),
    [
        ("vendor_id\t: GenuineIntel\nflags\t\t: fpu avx512f avx512_bf16", False),
        ("vendor_id\t: GenuineIntel\nflags\t\t: fpu avx512_bf16 amx_bf16", True),
        ("vendor_id\t: AuthenticAMD\nflags\t\t: fpu avx512f avx512_bf16", True),
        ("vendor_id\t: AuthenticAMD\nflags\t\t: fpu avx512f", False),
        ("Features\t: fp asimd bf16", True),
    ],
)
def test_intel_gains_by_bf16_with_amx_alone(tmp_path: Path, lines: str, gains: bool) -> None:
    """Its AVX-512 multiplies as fast in fp32."""
    (tmp_path / "cpuinfo").write_text(f"processor\t: 0\n{lines}\n")
    assert gains_by_bf16(CPU, cpuinfo=tmp_path / "cpuinfo") is gains


def test_without_the_file_and_on_other_devices_there_is_none(tmp_path: Path) -> None:
    assert not has_bf16(CPU, cpuinfo=tmp_path / "none")
    assert not has_bf16(torch.device("meta"))


def test_a_precision_may_be_asked_for_by_name() -> None:
    assert prefix_precision(CPU, "bf16") == "bf16"
    assert prefix_precision(CPU, "fp32") == "fp32"
    assert prefix_precision(CPU) == ("bf16" if gains_by_bf16(CPU) else "fp32")
