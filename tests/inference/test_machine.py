"""Processors: the quota of a control group counts, whichever version it has."""

import os
from pathlib import Path

import pytest

from hilum.inference.machine import available_cpus, cpu_quota


@pytest.mark.parametrize(
    ("files", "quota"),
    [
        ({"cpu.max": "150000 100000\n"}, 1.5),
        ({"cpu.max": "max 100000\n"}, None),
        ({"cpu/cpu.cfs_quota_us": "200000", "cpu/cpu.cfs_period_us": "100000"}, 2.0),
        ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, None),
        ({"cpu.max": "nonsense"}, None),
        ({}, None),
    ],
)
def test_quota_is_read_from_either_version(tmp_path: Path, files: dict[str, str], quota: float | None) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert cpu_quota(tmp_path) == quota


def test_processors_are_bounded_by_quota_and_affinity(tmp_path: Path) -> None:
    everything = len(os.sched_getaffinity(0))
    assert available_cpus(tmp_path) == everything
    (tmp_path / "cpu.max").write_text("50000 100000")
    assert available_cpus(tmp_path) == 1
    (tmp_path / "cpu.max").write_text("100000000 100000")
    assert available_cpus(tmp_path) == everything
