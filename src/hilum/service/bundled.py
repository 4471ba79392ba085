"""A bundle behind the workflow: films are read in sandboxed children and answered in another child."""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hilum.bundle.card import CARD_JSON_MEMBER, ModelCard, read_card
from hilum.bundle.reading import Bundle, read_bundle
from hilum.bundle.signature import read_trusted
from hilum.config import to_mapping
from hilum.imaging.intended_use import read_policy
from hilum.imaging.sandbox import Sandbox
from hilum.imaging.viewing import ViewerFilm
from hilum.inference.assess import Assessor
from hilum.inference.assessment import Assessment
from hilum.inference.preparing import Prepared, prepare_film
from hilum.inference.selftest import SelfTest, self_test
from hilum.records.values import HeatmapRecord, Identity, NewAnswer
from hilum.service.answering import Model, Ready
from hilum.service.drawing import draw_film, draw_heatmap, read_pixels, warm
from hilum.service.film_files import StoredFilm
from hilum.service.model_process import ModelLimits, ModelProcess
from hilum.service.observing import observation_of
from hilum.service.settings import Settings, gpu_environment

CHILDREN = 2
"""Decoding processes: one may draw for a reader while the other reads for the model."""

PRELOAD = (
    "pydicom.pixels.decoders",
    "PIL.Image",
    "PIL.ImageCms",
    "PIL.Jpeg2KImagePlugin",
    "PIL.JpegImagePlugin",
    "gdcm",
    "hilum.imaging.lungs",
    "hilum.inference.preparing",
    "hilum.service.drawing",
)
"""All that reading a film imports. A child may write no file once its limits count, so later imports are compiled
anew in each child, on a film's time."""


class Bundled:
    """Answers and draws with one bundle.

    Args:
        assessor: the bundle, opened.
        process: the runtime behind it.
        sandbox: where foreign files are read.
        fingerprints: whether the site's policy lets the model's features be kept, for watching drift.
    """

    def __init__(
        self, assessor: Assessor, process: ModelProcess, sandbox: Sandbox, *, fingerprints: bool = False
    ) -> None:
        self._assessor, self._process, self._sandbox = assessor, process, sandbox
        self._fingerprints = fingerprints
        info = assessor.info
        self._preprocessing = to_mapping(info.preprocessing)
        card = read_card(assessor.card, CARD_JSON_MEMBER) if assessor.card else None
        self._model = Model(
            sha256=assessor.sha256,
            name=info.name,
            version=info.version,
            findings=info.findings,
            thresholds=info.thresholds,
            validated=validated_on(card),
            not_validated=not_validated_on(card),
            card=card,
        )

    @property
    def model(self) -> Model:
        """The model in service."""
        return self._model

    @property
    def trouble(self) -> str | None:
        """Why no film can be answered just now."""
        return self._process.trouble

    def prepare(self, film: StoredFilm) -> Ready:
        """Read, gate and preprocess one film in a child; raises FilmError."""
        assessor = self._assessor
        read_for = assessor.info.preprocessing, assessor.policy
        with film.lent() as source:
            prepared = self._sandbox.run(prepare_film, source, *read_for, None, film.known_sha256, True)
        return Ready(identity=_identity(prepared), prepared=prepared, read_for=read_for)

    def answer(self, films: Sequence[Ready]) -> list[NewAnswer]:
        """Answer films in one run of the graph."""
        prepared = [film.prepared for film in films]
        assessments = self._assessor.assess_prepared(prepared)
        return [self._record(film, assessment) for film, assessment in zip(prepared, assessments, strict=True)]

    def reads_as(self, ready: Ready) -> bool:
        """Whether a film that was read for another model is read in the same way for this one."""
        return bool(ready.read_for == (self._assessor.info.preprocessing, self._assessor.policy))

    def self_test(self, bundle: Bundle) -> SelfTest:
        """Reproduce the bundle's reference answers in the model's process."""
        return self_test(bundle, self._process)

    def film(self, film: StoredFilm) -> bytes:
        """The film as a grey PNG; raises FilmError."""
        return self._sandbox.run(draw_film, film.source())

    def pixels(self, film: StoredFilm) -> ViewerFilm:
        """The film's 16-bit values; raises FilmError."""
        return self._sandbox.run(read_pixels, film.source())

    def heatmap(
        self,
        film: StoredFilm,
        heatmap: HeatmapRecord,
        *,
        assessment: Mapping[str, Any],
        layer: bool,
        style: str = "heat",
    ) -> bytes:
        """A heat map over its film as a PNG, or alone; raises FilmError."""
        values = np.frombuffer(heatmap.values, "<f4").reshape(heatmap.rows, heatmap.columns)
        # As the answer was made, which may have been by an earlier model.
        preprocessing, top = dict(assessment["preprocessing"]), float(assessment["heatmap_top"])
        return self._sandbox.run(draw_heatmap, film.source(), values, preprocessing, top, layer, style)

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


def validated_on(card: ModelCard | None) -> tuple[str, ...]:
    """The sets that the card has results for: its first set is what the model was fitted on."""
    if card is None:
        return ()
    return tuple(
        f"{one.name}: {one.films:,} films of {one.patients:,} patients"
        + (f" from {', '.join(one.sources)}" if one.sources else "")
        for one in card.data[1:]
        if one.films and one.patients
    )


def not_validated_on(card: ModelCard | None) -> tuple[str, ...]:
    """What the card says that the model is not for, was not tested on, and is warned of."""
    if card is None:
        return ()
    untested = tuple(f"Not tested on: {one}" for one in card.not_validated_on)
    return (*card.not_intended_for, *untested, *card.warnings, *card.limits)


@contextlib.contextmanager
def open_bundled(settings: Settings, restarted: Callable[[str], None] = lambda reason: None) -> Iterator[Bundled]:
    """Verify and load the bundle while the children start.

    Args:
        settings: the bundle and its limits.
        restarted: told the reason when the model's process was started again.

    Raises:
        BundleError: the bundle can't be trusted, or lacks a signature that the settings require.
        UsageError: a trusted key can't be read, or no gate let the precision pass.
        ConfigError: the site's gate policy can't be read.
        ServiceError: the model's process doesn't come up.
    """
    with open_sandbox(settings) as sandbox:
        bundle = read_bundle(settings.bundle, trusted=read_trusted(settings.trusted_keys))
        with open_model(settings.bundle, bundle, settings, sandbox, restarted) as bundled:
            wake(sandbox)
            yield bundled


def open_sandbox(settings: Settings) -> Sandbox:
    """Where films are read; its first child starts when it is entered, the others with :func:`wake`."""
    return Sandbox(1, memory_mb=settings.decode_memory_mb, wall_s=settings.decode_wall_s, preload=PRELOAD)


def wake(sandbox: Sandbox) -> None:
    """The first film finds a child awake; the others follow, and don't slow the start."""
    sandbox.run(warm)
    for _ in range(CHILDREN - 1):
        sandbox.add_worker()


@contextlib.contextmanager
def open_model(
    path: Path, bundle: Bundle, settings: Settings, sandbox: Sandbox, restarted: Callable[[str], None]
) -> Iterator[Bundled]:
    """Load a verified bundle into a process of its own.

    Args:
        path: where it lies; the process reads it there, and again whenever it is started anew.
        bundle: the same, verified.
        settings: runtime, precision, limits and gate.
        sandbox: where films are read.
        restarted: told the reason when the process was started again.
    """
    policy = None if settings.gate_policy is None else read_policy(settings.gate_policy)
    limits = ModelLimits(threads=settings.threads, memory_mb=settings.model_memory_mb, wall_s=settings.model_wall_s)
    process = ModelProcess(
        path.resolve(),
        sha256=bundle.sha256,
        limits=limits,
        runtime=settings.runtime,
        precision=settings.precision,
        environment=gpu_environment(),
        restarted=restarted,
    )
    card = bundle.contents.get(CARD_JSON_MEMBER, b"")
    with process, Assessor(bundle.info, bundle.sha256, process, policy=policy, card=card) as assessor:
        yield Bundled(assessor, process, sandbox, fingerprints=settings.keep_fingerprints)


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
