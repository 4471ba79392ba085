"""Decoded images, kept on disk: computed once, mapped into memory afterwards, and checked by hash each time."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from hilum.arrays import Array
from hilum.files import replacing_directory, write_json
from hilum.provenance import sha256_file

Allocate = Callable[[tuple[int, ...]], Array]
"""``allocate(shape)``: the uint8 array to fill."""

Make = Callable[[Allocate], dict[str, Any]]
"""Allocates one array, fills it, and returns JSON facts about it."""


def kept_images(cache: Path | None, key: str, make: Make) -> tuple[Array, dict[str, Any], str]:
    """Images from the cache, or made and put there.

    Args:
        cache: folder that keeps them, which may be emptied at any time; None computes them in memory.
        key: name of these images and no others: a hash of all that they depend on.
        make: computes them; what it raises leaves the cache as it was.

    Returns:
        (images uint8, facts, a sentence when they couldn't be kept or else "").
    """
    if cache is None:
        return (*_in_memory(make), "")
    folder = cache / "decoded" / key
    found = _load(folder)
    if found is None:
        try:
            with replacing_directory(folder) as temporary:
                facts = make(lambda shape: _mapped(temporary / "images.npy", shape))
                digest = sha256_file(temporary / "images.npy")
                write_json(temporary / "facts.json", {"sha256": digest, "facts": facts})
        except OSError as error:
            # Another process may have put the same images there meanwhile.
            found = _load(folder)
            if found is None:
                return (*_in_memory(make), f"Decoded images could not be kept in {cache} ({error.strerror}).")
        else:
            found = _load(folder)
    if found is None:
        return (*_in_memory(make), f"Decoded images could not be read back from {cache}.")
    return (*found, "")


def _in_memory(make: Make) -> tuple[Array, dict[str, Any]]:
    made: list[Array] = []

    def allocate(shape: tuple[int, ...]) -> Array:
        made.append(np.empty(shape, dtype=np.uint8))
        return made[0]

    facts = make(allocate)
    return made[0], facts


def _mapped(file: Path, shape: tuple[int, ...]) -> Array:
    array = np.lib.format.open_memmap(file, mode="w+", dtype=np.uint8, shape=shape)
    # Claim the disk space now: a full disk would otherwise kill the process when a mapped page is written.
    if not hasattr(os, "posix_fallocate"):
        return array
    descriptor = os.open(file, os.O_RDWR)
    try:
        os.posix_fallocate(descriptor, 0, file.stat().st_size)
    finally:
        os.close(descriptor)
    return array


def _load(folder: Path) -> tuple[Array, dict[str, Any]] | None:
    """What the cache holds; None where it is absent or damaged."""
    try:
        stored = json.loads((folder / "facts.json").read_text())
        if stored["sha256"] != sha256_file(folder / "images.npy"):
            return None
        # Mapped copy-on-write: torch takes it without a warning, and nobody's change reaches the file.
        return np.asarray(np.load(folder / "images.npy", mmap_mode="c", allow_pickle=False)), stored["facts"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
