"""Named random streams from one seed.

Every use of chance has its own stream, named by what it is for. So adding a use, or running in another order or in
several processes, changes no other stream.
"""

import hashlib

import numpy as np


def seed_for(seed: int, *names: str | int) -> int:
    """A 63-bit seed for a named use.

    Args:
        seed: the run's one seed, ≥ 0.
        names: what the stream is for, such as ``("augment", film_id, 3)``.

    Returns:
        an integer in 0 … 2⁶³ − 1, the same on every machine and in every process.
    """
    text = "\x1f".join([str(seed), *[f"{type(name).__name__}:{name}" for name in names]])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") >> 1


def stream(seed: int, *names: str | int) -> np.random.Generator:
    """A NumPy generator (PCG64) for a named use; see :func:`seed_for`."""
    return np.random.Generator(np.random.PCG64(seed_for(seed, *names)))
