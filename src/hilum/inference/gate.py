"""The gate that a lower precision must pass: a bundle answers the same films in fp32 and in bf16, on this machine.

bf16 keeps 8 significant bits of each factor and sums in fp32. OpenVINO has it where the processor multiplies bf16 in
hardware; ONNX Runtime has no such convolutions on a CPU and stays in fp32.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hilum.arrays import Array, Vector
from hilum.bundle.reading import Bundle
from hilum.datasets.manifest import Manifest
from hilum.errors import DataError, FilmError
from hilum.imaging.sandbox import Sandbox
from hilum.inference.assess import MAX_BATCH
from hilum.inference.choosing import installed, machine, open_runtime
from hilum.inference.gate_checks import (
    Check,
    auroc_checks,
    map_check,
    map_correlations,
    probability_shift,
    sensitivity_checks,
    speed_check,
)
from hilum.inference.machine import available_cpus
from hilum.inference.precision import BF16, GateRecord, open_low
from hilum.inference.predict import PRELOAD, WALL_S
from hilum.inference.preparing import Prepared, prepare_film
from hilum.inference.runtimes import Runtime
from hilum.labels import Findings
from hilum.predictions import Predictions
from hilum.progress import Progress, Silent
from hilum.provenance import now_utc, processor

REPEATS = 30
"""Turns in which one film is timed in each precision."""

BLOCK = 4 * MAX_BATCH
"""Films that are decoded before they are answered."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """What a gate found."""

    bundle: str
    """The bundle's digest."""
    name: str
    """Name and version of the model."""
    precision: str
    """What was tried."""
    runtimes: tuple[str, ...]
    """Runtimes in fp32, the first of which gave the answers that were compared; then the one in the lower precision."""
    threads: int
    """Threads of one run."""
    processor: str
    """The processor's name."""
    machine: str
    """Fingerprint of processor, processors and versions."""
    films: int
    """Films that were compared."""
    patients: int
    """Patients that they are of."""
    manifest: str
    """Fingerprint of the films' manifest."""
    left_out: Mapping[str, int]
    """Films that were not compared, by reason."""
    checks: tuple[Check, ...]
    """Everything that was held against a bar."""
    shift: Mapping[str, float]
    """How far probabilities move: ``largest`` and ``mean`` difference, films with an ``other_label``."""
    batch: Check
    """Speed in batches of eight: reported, not judged."""
    gated_at: str
    """When, ISO 8601 in UTC."""

    @property
    def passed(self) -> bool:
        """Whether every bar is reached."""
        return not self.refusals

    @property
    def refusals(self) -> tuple[str, ...]:
        """Why not, a sentence each."""
        return tuple(check.refusal for check in self.checks if check.refusal)

    @property
    def films_needed(self) -> int | None:
        """About how many such films would show what these don't; None where it passed or no number would."""
        return max((check.films_needed for check in self.checks if check.films_needed), default=None)

    def record(self) -> GateRecord:
        """What predict and serve ask for."""
        speed = next(check for check in self.checks if "ratio" in check.numbers)
        return GateRecord(
            bundle=self.bundle,
            name=self.name,
            precision=self.precision,
            runtime=self.runtimes[-1],
            machine=self.machine,
            processor=self.processor,
            films=self.films,
            manifest=self.manifest,
            speed=float(speed.numbers["ratio"] or 0),
            refusals=self.refusals,
            gated_at=self.gated_at,
        )

    def lines(self) -> list[str]:
        """For a person: a line a check, then the verdict and its reasons."""
        out = "; ".join(f"{count:,} {why}" for why, count in self.left_out.items())
        verdict = f"{self.precision} may answer with this bundle on this machine"
        refused = f"{self.precision} is refused for this bundle on this machine; fp32 answers as before"
        return [
            f"{self.name} ({self.bundle[:12]}…) in {self.precision} beside fp32, {self.films:,} films of "
            f"{self.patients:,} patients{', left out: ' + out if out else ''}",
            f"{', '.join(self.runtimes[:-1])} in fp32; {self.runtimes[-1]} in {self.precision}; "
            f"{self.threads} threads, {self.processor}",
            *(f"{'ok  ' if one.passed else 'no  '}  {one.what}: {one.found} (bar: {one.bar})" for one in self.checks),
            f"      speed in batches of {MAX_BATCH}: {self.batch.found}",
            f"      probabilities move by {self.shift['largest']:.1e} at most, {self.shift['mean']:.1e} on average; "
            f"{self.shift['other_label']:.0f} films get another likeliest finding",
            *(f"refused: {sentence}" for sentence in self.refusals),
            verdict if self.passed else refused,
        ]


def run_gate(
    bundle: Bundle,
    films: Manifest,
    *,
    precision: str = BF16,
    threads: int | None = None,
    usual: Sequence[Runtime] = (),
    low: Runtime | None = None,
    workers: int | None = None,
    repeats: int = REPEATS,
    progress: Progress | None = None,
) -> Gate:
    """Answer films in fp32 and in a lower precision, and judge what it costs and gains.

    Args:
        bundle: verified.
        films: labelled films that the model was not trained on. A locked test part is left closed, and films without
            a label, that can't be read, or that the bundle's gate refuses, are left out and counted.
        precision: what to try.
        threads: threads of one run; None: the processors that this process may use.
        usual: runtimes in fp32, whose first gives the answers; none: all that are installed.
        low: what computes in the lower precision; None: OpenVINO.
        workers: processes that decode; None: one a processor.
        repeats: turns of the timing.
        progress: where to report.

    Raises:
        UsageError: a processor without that precision.
        MissingExtra: OpenVINO is not installed.
        DataError: the manifest is the one that the bundle was trained on, or no film can be compared.
        LabelError: a label that is none of the bundle's findings.
    """
    if films.fingerprint == bundle.info.fingerprints.get("films"):
        raise DataError(
            "These films are those that the bundle was trained on, which it ranks too easily. Give a manifest of "
            "films that it has not seen."
        )
    low = low or open_low(bundle, threads, precision=precision)
    size = bundle.info.preprocessing.size
    usual = usual or [open_runtime(name, bundle.model, threads, size=size) for name in installed()]
    progress = progress or Silent()
    pairs = _answered(bundle, films, usual[0], low, workers or available_cpus(), progress)
    alone, many = (_timed(usual, low, size, batch, repeats) for batch in (1, MAX_BATCH))
    return Gate(
        bundle=bundle.sha256,
        name=f"{bundle.info.name} {bundle.info.version}",
        precision=precision,
        runtimes=(*(one.name for one in usual), low.name),
        threads=low.threads,
        processor=processor(),
        machine=machine(),
        films=len(pairs.usual),
        patients=len(set(pairs.usual.patient_ids)),
        manifest=films.fingerprint,
        left_out={why: count for why, count in pairs.left_out.items() if count},
        checks=(
            *auroc_checks(pairs.usual, pairs.low),
            *sensitivity_checks(pairs.usual, pairs.low, bundle.info.thresholds),
            map_check(pairs.correlations),
            alone,
        ),
        shift=probability_shift(pairs.usual, pairs.low),
        batch=many,
        gated_at=now_utc(),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Pairs:
    usual: Predictions
    low: Predictions
    correlations: Vector
    left_out: Mapping[str, int]


def _answered(
    bundle: Bundle, films: Manifest, usual: Runtime, low: Runtime, workers: int, progress: Progress
) -> _Pairs:
    """Both precisions' answers to the films that can be compared; no more than a block of films is in memory."""
    targets = films.targets(Findings(bundle.info.findings))
    labelled, locked = ~np.isnan(targets).any(axis=1), films.column("part") == "test"
    rows = np.flatnonzero(labelled & ~locked)
    left_out = {
        "of the locked test part": int(locked.sum()),
        "without a label": int((~labelled & ~locked).sum()),
        "that can't be read": 0,
        "that the bundle's gate refuses": 0,
    }
    kept: list[int] = []
    parts: dict[str, list[Array]] = {name: [] for name in ("usual", "low", "usual_logits", "low_logits", "maps")}
    paths, ids = films.film_paths(), films.strings("film_id")
    with Sandbox(workers, wall_s=WALL_S, preload=PRELOAD) as sandbox, progress.bar("films", len(rows)) as bar:
        for start in range(0, len(rows), BLOCK):
            block = rows[start : start + BLOCK]
            ready = []
            for row, film in zip(block, _prepared(sandbox, [paths[i] for i in block], bundle), strict=True):
                if isinstance(film, DataError) or film.sha256 != ids[row]:
                    left_out["that can't be read"] += 1
                elif not film.gate.analyse:
                    left_out["that the bundle's gate refuses"] += 1
                else:
                    ready.append((int(row), film))
            for batch in _batches(ready):
                tiles = np.stack([film.tile for _, film in batch])[:, None]
                first, second = usual.run(tiles), low.run(tiles)
                kept += [row for row, _ in batch]
                parts["usual"].append(first.probabilities)
                parts["low"].append(second.probabilities)
                parts["usual_logits"].append(first.logits)
                parts["low_logits"].append(second.logits)
                parts["maps"].append(map_correlations(first.cam, second.cam, bundle.info.heatmap_top))
            bar.advance(len(block))
    if not kept:
        said = "; ".join(f"{count} {why}" for why, count in left_out.items() if count)
        raise DataError(f"No film can be compared ({said or 'the manifest is empty'}). Give labelled, readable films.")
    joined = {name: np.concatenate(values).astype(np.float64) for name, values in parts.items()}
    patients = films.strings("patient_id")
    predictions = [
        Predictions(
            findings=Findings(bundle.info.findings),
            film_ids=tuple(ids[row] for row in kept),
            patient_ids=tuple(patients[row] or ids[row] for row in kept),
            logits=joined[f"{name}_logits"],
            probs=joined[name],
            targets=targets[kept],
        )
        for name in ("usual", "low")
    ]
    return _Pairs(usual=predictions[0], low=predictions[1], correlations=joined["maps"], left_out=left_out)


def _prepared(sandbox: Sandbox, paths: Sequence[Path], bundle: Bundle) -> list[Prepared | DataError]:
    """Films in their order, or what is wrong with each."""
    unread = FilmError("The file is not there.", code="not-found")
    found: list[Prepared | DataError] = [unread] * len(paths)
    there = [i for i, path in enumerate(paths) if path.is_file()]
    jobs = [(paths[i], bundle.info.preprocessing, bundle.info.gate) for i in there]
    for at, film in sandbox.map(prepare_film, jobs):
        found[there[at]] = film
    return found


def _batches(films: Sequence[tuple[int, Prepared]]) -> Iterator[Sequence[tuple[int, Prepared]]]:
    for start in range(0, len(films), MAX_BATCH):
        yield films[start : start + MAX_BATCH]


def _timed(usual: Sequence[Runtime], low: Runtime, size: int, batch: int, repeats: int) -> Check:
    """Runs in turn, so that a slow moment of the machine meets all of them."""
    tiles = np.random.Generator(np.random.PCG64(0)).integers(0, 256, (batch, 1, size, size), dtype=np.uint8)
    runtimes = (*usual, low)
    for runtime in runtimes:
        runtime.run(tiles)
    times: list[list[float]] = [[] for _ in runtimes]
    for _ in range(repeats):
        for runtime, mine in zip(runtimes, times, strict=True):
            started = time.perf_counter()
            runtime.run(tiles)
            mine.append(1000.0 * (time.perf_counter() - started))
    return speed_check({one.name: mine for one, mine in zip(usual, times, strict=False)}, times[-1])
