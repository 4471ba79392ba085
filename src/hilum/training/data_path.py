"""How films reach the network: resident in memory, or streamed from disk; chosen by size, and said in one sentence.

Either way a batch holds the same bits, so the choice decides nothing but time and memory.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from hilum.errors import UsageError, nearest

Wanted = Literal["auto", "resident", "streaming"]
"""What a person may ask for; ``auto`` goes by size."""

SHARE = 0.5
"""Share of the memory that is free which films may take; the rest is for weights, batches and cached outputs."""

UNLIMITED = 2**60
"""Limits of this size and more are none: cgroups of version 1 write "none" as the largest number they know."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DataPath:
    """How films reach the network, and why."""

    kind: Literal["resident", "streaming"]
    """``resident``: uint8 in memory; ``streaming``: read from the decoded cache on disk, ahead of time."""
    films: int
    """How many."""
    megabytes: float
    """What all of them take at model resolution, in 10⁶ bytes."""
    free_megabytes: float
    """Memory that was free, or the budget that was given, in 10⁶ bytes."""
    asked_for: bool
    """Whether a person chose; else their size did."""

    @property
    def sentence(self) -> str:
        """One sentence for the log."""
        films = f"{self.films:,} films ({_size(self.megabytes)})"
        kept = f"{films} stay in memory" if self.kind == "resident" else f"{films} are streamed from disk"
        if self.asked_for:
            return f"{kept}, as asked."
        share, free = f"{SHARE:.0%}", _size(self.free_megabytes)
        why = "no more" if self.kind == "resident" else "more"
        return f"{kept}: they take {why} than {share} of the {free} of memory that are free."


def _size(megabytes: float) -> str:
    return f"{megabytes / 1000:.1f} GB" if megabytes >= 1000 else f"{megabytes:.1f} MB"


def choose_data_path(films: int, size: int, wanted: Wanted = "auto", *, free: int | None = None) -> DataPath:
    """Choose how films reach the network.

    Args:
        films: how many.
        size: bytes of all of them at model resolution.
        wanted: what a person asked for.
        free: bytes of memory that are free; None to look.

    Raises:
        UsageError: another wish than the three.
    """
    known = ("auto", "resident", "streaming")
    if wanted not in known:
        raise UsageError(f"Films can't reach the network by {wanted!r}. {nearest(wanted, known)}")
    free = free_memory() if free is None else free
    by_size: Literal["resident", "streaming"] = "resident" if size <= SHARE * free else "streaming"
    return DataPath(
        kind=by_size if wanted == "auto" else wanted,
        films=films,
        megabytes=round(size / 1e6, 1),
        free_megabytes=round(free / 1e6, 1),
        asked_for=wanted != "auto",
    )


def free_memory(root: Path = Path("/")) -> int:
    """Bytes of memory that this process may still take: of the machine, and of every cgroup that it is in.

    Pages that the system would give back at once (``MemAvailable``, a cgroup's inactive files) count as free.

    Args:
        root: where ``proc`` and ``sys`` are.
    """
    found = [_of_machine(root), *_of_cgroups(root)]
    return max(0, min(found))


def _of_machine(root: Path) -> int:
    try:
        lines = (root / "proc/meminfo").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration):  # not Linux: half of what the machine has
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2


def _of_cgroups(root: Path) -> list[int]:
    """Bytes left in each cgroup from this process's own up to the first (cgroups(7); Linux, cgroup-v2, memory)."""
    left = []
    for mount, inside, limit, used, files in _cgroups(root):
        folders = [mount / inside, *(mount / inside).parents] if inside else [mount]
        for folder in (one for one in folders if one == mount or mount in one.parents):
            try:
                most = (folder / limit).read_text().strip()
                if most == "max" or int(most) >= UNLIMITED:
                    continue
                stat = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
                left.append(int(most) - int((folder / used).read_text()) + int(stat.get(files, 0)))
            except (OSError, ValueError):  # a container may not see the folders above its own, or below its root
                continue
    return left


def _cgroups(root: Path) -> list[tuple[Path, str, str, str, str]]:
    """Mount, path inside it, and names of limit, use and reclaimable files, of versions 2 and 1."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return []
    found = []
    for number, controllers, path in (line.split(":", 2) for line in lines if line.count(":") >= 2):
        inside = path.strip("/")
        if number == "0" and not controllers:
            mount = root / "sys/fs/cgroup"
            found.append((mount, inside, "memory.max", "memory.current", "inactive_file"))
        elif "memory" in controllers.split(","):
            mount = root / "sys/fs/cgroup/memory"
            found.append((mount, inside, "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"))
    return found
