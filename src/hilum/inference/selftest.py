"""A bundle proves itself: on this machine and in this runtime its reference tiles must give their reference answers."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hilum.arrays import Array
from hilum.bundle.reading import Bundle, read_bundle
from hilum.inference.choosing import DEFAULT, open_runtime
from hilum.inference.runtimes import Answer, Runtime
from hilum.keys import PublicKey

TOLERANCE = 1e-4
"""Largest difference that passes: absolute for values up to 1, relative beyond."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SelfTest:
    """What came out."""

    bundle: str
    """Name and version of the model."""
    sha256: str
    """The bundle's digest."""
    films: int
    """Reference tiles."""
    runtime: str
    """Runtime and its version."""
    precision: str
    """What it computed in."""
    tolerance: float
    """Largest difference that passes."""
    differences: dict[str, float]
    """Largest difference by output, over all tiles at once and each by itself; infinite where shapes disagree."""
    signer: str | None = None
    """Id of the key that signed the bundle; None when unsigned."""

    @property
    def passed(self) -> bool:
        """Whether every output is within the tolerance."""
        return all(value <= self.tolerance for value in self.differences.values())

    @property
    def worst(self) -> str:
        """The output that differs most."""
        return max(self.differences, key=lambda name: self.differences[name])


def verify_bundle(
    path: Path | str,
    *,
    threads: int | None = None,
    tolerance: float = TOLERANCE,
    trusted: Sequence[PublicKey] = (),
    runtime: str = DEFAULT,
) -> SelfTest:
    """Verify every hash and the signature, then reproduce the reference answers.

    Args:
        path: a folder or a ``.hilum`` file.
        threads: threads of the runtime; None: the processors that this process may use.
        tolerance: largest difference that passes.
        trusted: keys of which one must have signed it; empty when no signature is required.
        runtime: a key of :data:`hilum.inference.choosing.RUNTIMES`, or ``auto``.

    Raises:
        BundleError: the bundle can't be trusted or loaded; answers that differ are reported, not raised.
    """
    bundle = read_bundle(path, trusted=trusted)
    return self_test(bundle, open_runtime(runtime, bundle.model, threads), tolerance=tolerance)


def self_test(bundle: Bundle, runtime: Runtime, *, tolerance: float = TOLERANCE) -> SelfTest:
    """Reproduce the reference answers, all tiles at once and each by itself: an answer must not depend on its batch."""
    tiles, expected = bundle.reference.tiles, bundle.reference.outputs
    together = runtime.run(tiles)
    alone = _joined([runtime.run(tiles[i : i + 1]) for i in range(len(tiles))])
    return SelfTest(
        bundle=f"{bundle.info.name} {bundle.info.version}",
        sha256=bundle.sha256,
        films=len(tiles),
        runtime=runtime.name,
        precision=runtime.precision,
        tolerance=tolerance,
        signer=None if bundle.signer is None else bundle.signer.id,
        differences={
            name: max(_difference(together[name], values), _difference(alone[name], values))
            for name, values in expected.items()
        },
    )


def _joined(answers: list[Answer]) -> dict[str, Array]:
    return {name: np.concatenate([one[name] for one in answers]) for name in answers[0].as_mapping()}


def _difference(got: Array, expected: Array) -> float:
    if got.shape != expected.shape or not np.isfinite(got).all():
        return float("inf")
    return float(np.max(np.abs(got - expected) / np.maximum(1.0, np.abs(expected)), initial=0.0))
