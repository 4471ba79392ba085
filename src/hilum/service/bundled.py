"""A bundle behind the workflow: films are read in sandboxed children, answered in this process."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hilum.bundle.signature import read_trusted
from hilum.config import to_mapping
from hilum.imaging.intended_use import read_policy
from hilum.imaging.sandbox import Sandbox
from hilum.imaging.viewing import ViewerFilm
from hilum.inference.assess import Assessor, open_bundle
from hilum.inference.assessment import Assessment
from hilum.inference.preparing import Prepared, prepare_film
from hilum.records.values import HeatmapRecord, Identity, NewAnswer
from hilum.service.answering import Model, Ready
from hilum.service.drawing import draw_film, draw_heatmap, read_pixels, warm
from hilum.service.observing import observation_of
from hilum.service.settings import Settings

CHILDREN = 2
"""Decoding processes: one may draw for a reader while the other reads for the model."""

PRELOAD = (
    "pydicom.pixels.decoders",
    "PIL.Image",
    "PIL.ImageCms",
    "gdcm",
    "hilum.inference.preparing",
    "hilum.service.drawing",
)
"""All that reading a film imports. A child may write no file once its limits count, so later imports are compiled
anew in each child, on a film's time."""


class Bundled:
    """Answers and draws with one bundle.

    Args:
        assessor: the bundle, opened.
        sandbox: where foreign files are read.
        fingerprints: whether the site's policy lets the model's features be kept, for watching drift.
    """

    def __init__(self, assessor: Assessor, sandbox: Sandbox, *, fingerprints: bool = False) -> None:
        self._assessor, self._sandbox, self._fingerprints = assessor, sandbox, fingerprints
        info = assessor.info
        self._preprocessing = to_mapping(info.preprocessing)
        self._model = Model(sha256=assessor.sha256, name=info.name, version=info.version, findings=info.findings)

    @property
    def model(self) -> Model:
        """The model in service."""
        return self._model

    @property
    def trouble(self) -> str | None:
        """Why no film can be answered just now."""
        return None

    def prepare(self, path: Path) -> Ready:
        """Read, gate and preprocess one film in a child; raises FilmError."""
        prepared = self._sandbox.run(prepare_film, path, self._assessor.info.preprocessing, self._assessor.policy)
        return Ready(identity=_identity(prepared), prepared=prepared)

    def answer(self, films: Sequence[Ready]) -> list[NewAnswer]:
        """Answer films in one run of the graph."""
        prepared = [film.prepared for film in films]
        assessments = self._assessor.assess_prepared(prepared)
        return [self._record(film, assessment) for film, assessment in zip(prepared, assessments, strict=True)]

    def film(self, path: Path) -> bytes:
        """The film as a grey PNG; raises FilmError."""
        return self._sandbox.run(draw_film, path)

    def pixels(self, path: Path) -> ViewerFilm:
        """The film's 16-bit values; raises FilmError."""
        return self._sandbox.run(read_pixels, path)

    def heatmap(
        self, path: Path, heatmap: HeatmapRecord, *, assessment: Mapping[str, Any], layer: bool, style: str = "heat"
    ) -> bytes:
        """A heat map over its film as a PNG, or alone; raises FilmError."""
        values = np.frombuffer(heatmap.values, "<f4").reshape(heatmap.rows, heatmap.columns)
        # As the answer was made, which may have been by an earlier model.
        preprocessing, top = dict(assessment["preprocessing"]), float(assessment["heatmap_top"])
        return self._sandbox.run(draw_heatmap, path, values, preprocessing, top, layer, style)

    def _record(self, prepared: Prepared, assessment: Assessment) -> NewAnswer:
        return NewAnswer(
            model_sha256=self._model.sha256,
            analysed=assessment.analysed,
            label=assessment.label,
            abstained=assessment.abstained,
            risk=assessment.risk,
            assessment={**assessment.to_json(), "preprocessing": self._preprocessing},
            reason="" if assessment.analysed else " ".join(assessment.reasons),
            heatmaps=_heatmaps(assessment),
            observation=observation_of(prepared, assessment, fingerprints=self._fingerprints),
        )


@contextlib.contextmanager
def open_bundled(settings: Settings) -> Iterator[Bundled]:
    """Verify and load the bundle while the children start.

    Raises:
        BundleError: the bundle can't be trusted, or lacks a signature that the settings require.
        UsageError: a trusted key can't be read, or no gate let the precision pass.
        ConfigError: the site's gate policy can't be read.
    """
    trusted = read_trusted(settings.trusted_keys)
    policy = None if settings.gate_policy is None else read_policy(settings.gate_policy)
    runtime, precision = settings.runtime, settings.precision
    with (
        Sandbox(1, memory_mb=settings.decode_memory_mb, wall_s=settings.decode_wall_s, preload=PRELOAD) as sandbox,
        open_bundle(
            settings.bundle, settings.threads, policy=policy, trusted=trusted, runtime=runtime, precision=precision
        ) as assessor,
    ):
        sandbox.run(warm)  # the first film finds a child awake; the others follow, and don't slow the start
        for _ in range(CHILDREN - 1):
            sandbox.add_worker()
        yield Bundled(assessor, sandbox, fingerprints=settings.keep_fingerprints)


def _identity(prepared: Prepared) -> Identity:
    facts = prepared.facts
    return Identity(
        sop_instance_uid=facts.sop_instance_uid,
        study_instance_uid=facts.study_instance_uid,
        patient_id=facts.patient_id or "",
        accession_number=facts.accession_number or "",
    )


def _heatmaps(assessment: Assessment) -> tuple[HeatmapRecord, ...]:
    cams, spreads = assessment.cams, assessment.cam_std
    if cams is None:
        return ()
    return tuple(
        HeatmapRecord(
            finding=finding,
            rows=cams.shape[1],
            columns=cams.shape[2],
            values=cams[i].astype("<f4").tobytes(),
            spread=None if spreads is None else spreads[i].astype("<f4").tobytes(),
        )
        for i, finding in enumerate(assessment.findings)
    )
