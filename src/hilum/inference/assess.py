"""Open a bundle and ask it: films in, assessments out. No torch, no plots; the runtime is loaded when a bundle is."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np

import hilum
from hilum.bundle.card import CARD_JSON_MEMBER
from hilum.bundle.reading import Bundle, read_bundle
from hilum.bundle.schema import BundleInfo
from hilum.config import fingerprint
from hilum.errors import UsageError
from hilum.imaging.intended_use import GatePolicy
from hilum.imaging.radiograph import Radiograph
from hilum.inference.abstention import reasons_to_abstain
from hilum.inference.assessment import Assessment, Provenance
from hilum.inference.choosing import DEFAULT
from hilum.inference.precision import FP32, open_in
from hilum.inference.preparing import Prepared, prepare_film, prepare_radiograph
from hilum.inference.runtimes import Answer, Runtime
from hilum.keys import PublicKey
from hilum.provenance import now_utc

__all__ = ["MAX_BATCH", "Assessor", "Prepared", "open_bundle", "prepare_film"]

MAX_BATCH = 8
"""Most films in one run: on a CPU larger batches are no faster, and their activations take memory."""


class Assessor:
    """A verified bundle in a runtime. Usable from several threads; a context manager.

    Attributes:
        info: what ``bundle.json`` says.
        sha256: the bundle's digest: the model's version in every record.
        runtime: what runs the graph.
        policy: which films are analysed.
        card: the bundle's model card as JSON, for whoever shows it; empty when it has none.
    """

    def __init__(
        self,
        info: BundleInfo,
        sha256: str,
        runtime: Runtime,
        *,
        policy: GatePolicy | None = None,
        card: bytes = b"",
        clock: Callable[[], str] = now_utc,
    ) -> None:
        self.info, self.sha256, self.policy, self.card = info, sha256, policy or info.gate, card
        self._runtime: Runtime | None = runtime
        self._clock = clock
        self._preprocessing = fingerprint(info.preprocessing)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the runtime and its memory."""
        self._runtime = None

    @property
    def runtime(self) -> Runtime:
        """What runs the graph.

        Raises:
            UsageError: the bundle was closed.
        """
        if self._runtime is None:
            raise UsageError(f"The bundle {self.info.name} is closed. Open it again, and ask inside the with block.")
        return self._runtime

    def prepare(self, source: Path | str | bytes) -> Prepared:
        """Read and preprocess a film in this process; untrusted files belong in a sandbox with :func:`prepare_film`.

        Raises:
            FilmError: it can't be read.
        """
        return prepare_film(Path(source) if isinstance(source, str) else source, self.info.preprocessing, self.policy)

    def assess(self, film: Radiograph) -> Assessment:
        """Assess one film."""
        prepared = prepare_radiograph(film, self.info.preprocessing, self.policy)
        return next(self._assess([prepared], [film]))

    def assess_prepared(self, films: Sequence[Prepared]) -> list[Assessment]:
        """Assess films that were prepared for this bundle, in their order; those that the gate refused are not run."""
        return list(self._assess(films, [None] * len(films)))

    def _assess(self, films: Sequence[Prepared], whole: Sequence[Radiograph | None]) -> Iterator[Assessment]:
        runtime = self.runtime
        provenance = self._provenance(runtime)
        wanted = [i for i, film in enumerate(films) if film.gate.analyse]
        answers: dict[int, tuple[Answer, int]] = {}
        for start in range(0, len(wanted), MAX_BATCH):
            rows = wanted[start : start + MAX_BATCH]
            answer = runtime.run(np.stack([films[i].tile for i in rows])[:, None])
            answers |= {i: (answer, row) for row, i in enumerate(rows)}
        for i, film in enumerate(films):
            if i in answers:
                yield self._answered(film, whole[i], *answers[i], provenance)
            else:
                yield self._not_analysed(film, whole[i], provenance)

    def _not_analysed(self, film: Prepared, whole: Radiograph | None, provenance: Provenance) -> Assessment:
        return Assessment(
            film_sha256=film.sha256,
            outcome="not-analysed",
            findings=self.info.findings,
            normal=self.info.normal,
            label=None,
            positive=(),
            reasons=tuple(film.gate.reasons),
            gate=film.gate,
            flags=film.flags,
            provenance=provenance,
            heatmap_top=self.info.heatmap_top,
            tile=film.tile,
            film_shape=film.shape,
            preprocessing=self.info.preprocessing,
            film=None if whole is None else whole.pixels,
        )

    def _answered(
        self, film: Prepared, whole: Radiograph | None, answer: Answer, row: int, provenance: Provenance
    ) -> Assessment:
        info = self.info
        probs, information = answer.probabilities[row], float(answer.mutual_information[row])
        distance = None if info.ood is None else float(info.ood.distance(answer.features[row : row + 1])[0])
        reasons = reasons_to_abstain(
            info,
            probs=probs,
            member_std=answer.member_std[row],
            mc_std=answer.mc_std[row],
            mutual_information=information,
            ood_distance=distance,
        )
        by_finding = {
            name: {finding: float(value) for finding, value in zip(info.findings, answer[output][row], strict=True)}
            for name, output in (
                ("probs", "probabilities"),
                ("mc_mean", "mc_mean"),
                ("mc_std", "mc_std"),
                ("member_std", "member_std"),
            )
        }
        return Assessment(
            film_sha256=film.sha256,
            outcome="abstained" if reasons else "answered",
            findings=info.findings,
            normal=info.normal,
            label=None if reasons else info.findings[int(probs.argmax())],
            positive=_positive(info, by_finding["probs"]),
            reasons=reasons,
            gate=film.gate,
            flags=film.flags,
            provenance=provenance,
            **by_finding,
            mutual_information=information,
            ood_distance=distance,
            features=answer.features[row],
            cams=answer.cam[row],
            cam_std=answer.cam_std[row],
            heatmap_top=info.heatmap_top,
            tile=film.tile,
            film_shape=film.shape,
            preprocessing=info.preprocessing,
            film=None if whole is None else whole.pixels,
        )

    def _provenance(self, runtime: Runtime) -> Provenance:
        return Provenance(
            bundle_name=self.info.name,
            bundle_version=self.info.version,
            bundle_sha256=self.sha256,
            preprocessing_version=self.info.preprocessing.version,
            preprocessing_fingerprint=self._preprocessing,
            runtime=runtime.name,
            precision=runtime.precision,
            hilum=hilum.__version__,
            answered_at=self._clock(),
        )


def open_bundle(
    path: Path | str,
    threads: int | None = None,
    *,
    policy: GatePolicy | None = None,
    trusted: Sequence[PublicKey] = (),
    runtime: str = DEFAULT,
    precision: str = FP32,
) -> Assessor:
    """Verify a bundle and load it into a runtime, warmed up.

    Args:
        path: a folder or a ``.hilum`` file.
        threads: threads of one run; None: the processors that this process may use.
        policy: the site's own gate; None: the bundle's.
        trusted: keys of which one must have signed the bundle; empty when no signature is required.
        runtime: a key of :data:`hilum.inference.choosing.RUNTIMES`, or ``auto``.
        precision: fp32, or one that a gate let pass for this bundle on this machine.

    Raises:
        BundleError: the bundle can't be trusted or its graph can't be loaded.
        UsageError: no such runtime, it is not installed, or no gate let the precision pass.
    """
    opened = read_bundle(path, trusted=trusted)
    return assessor(opened, threads, policy=policy, runtime=runtime, precision=precision)


def assessor(
    bundle: Bundle,
    threads: int | None = None,
    *,
    policy: GatePolicy | None = None,
    runtime: str = DEFAULT,
    precision: str = FP32,
) -> Assessor:
    """The same from a bundle that has been read already."""
    opened = open_in(bundle, threads, runtime=runtime, precision=precision)
    return Assessor(bundle.info, bundle.sha256, opened, policy=policy, card=bundle.contents.get(CARD_JSON_MEMBER, b""))


def _positive(info: BundleInfo, probs: dict[str, float]) -> tuple[str, ...]:
    reached = [name for name, threshold in info.thresholds.items() if probs[name] >= threshold]
    return tuple(sorted(reached, key=lambda name: -probs[name]))
