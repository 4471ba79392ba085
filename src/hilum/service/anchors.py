"""Anchors: fixed phantom films that the running model answers now and then, which must be what it answered at first.

An update of a runtime, a decoder, a driver or a processor may change answers without a sound. So a few synthetic films
lie in the data folder; they go the way of every film, through the sandbox and the model's own process, and nothing of
them is recorded as a patient's. What each model version said of them at first is kept beside them, with its digest in
the audit; later answers must be near it by the bit.
"""

import hashlib
import json
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hilum.errors import DataError
from hilum.files import write_bytes
from hilum.records.audit import Act, append, entries
from hilum.records.database import Database
from hilum.records.observations import STATISTICS
from hilum.records.store import now
from hilum.records.values import NewAnswer
from hilum.service.answering import Ready
from hilum.service.film_files import StoredFilm

FILMS, ROWS = 6, 512
"""Two of each finding, from two synthetic devices; rows of a film."""

TOLERANCE = 1e-5
"""Largest difference that passes: absolute for values up to 1, relative beyond. A film is answered by itself, so its
neighbours in a batch change nothing."""

CHECKED = "model.checked"
PARTS = ("pixels", "probabilities", "heat maps")
"""What is compared, in the order in which it is made: the first that differs says where to look."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AnchorCheck:
    """What came of it."""

    model_sha256: str
    """The model that answered; of several (a candidate on trial) the one with the largest difference."""
    films: int
    """Films that were compared."""
    recorded: int
    """Films that had no recorded answer, which have one now."""
    differences: Mapping[str, float]
    """Largest difference by part; infinite where shapes or labels disagree. Empty where nothing was compared."""

    @property
    def passed(self) -> bool:
        """Whether every part is within :data:`TOLERANCE`."""
        return all(value <= TOLERANCE for value in self.differences.values())

    @property
    def sentence(self) -> str:
        """The same for a person."""
        if not self.films:
            return f"{self.recorded} phantom films were answered for the first time, and their answers recorded."
        worst = next((name for name in PARTS if self.differences[name] > TOLERANCE), "")
        if not worst:
            return f"{self.films} phantom films are answered as they were."
        return (
            f"{self.films} phantom films are answered otherwise than they were: {worst} differ by up to "
            f"{self.differences[worst]:.2g}, where {TOLERANCE:g} is accepted. Something beneath the model was changed: "
            "hold packages, driver and processor against those of the day of the recorded answers."
        )


class Anchors:
    """The check.

    Args:
        folder: where films and answers are kept.
        database: of the audit.
        prepare: reads a film.
        answer: answers one film by itself.
    """

    def __init__(
        self,
        folder: Path,
        database: Database,
        prepare: Callable[[StoredFilm], Ready],
        answer: Callable[[Ready], NewAnswer],
    ) -> None:
        self._folder, self._database, self._prepare, self._answer = folder, database, prepare, answer
        self._one_at_a_time = threading.Lock()

    def check(self, *, actor: str, accept: str = "") -> AnchorCheck:
        """Have the films answered, and compare; what a model says of one for the first time is recorded.

        Args:
            actor: who asks.
            accept: why the present answers count from now on, such as an update that was tested; empty to compare.

        Raises:
            DataError: the recorded answers were changed.
            FilmError: a film can't be read any more.
            ServiceError: the model does not answer.
        """
        with self._one_at_a_time:
            said = [(film.file_sha256, self._answer(self._prepare(film))) for film in self._films()]
            models = dict.fromkeys(one.model_sha256 for _, one in said)
            done = [self._compare(model, said, actor, accept) for model in models]
            return max(done, key=lambda one: max(one.differences.values(), default=0.0))

    def _compare(self, model: str, said: list[tuple[str, NewAnswer]], actor: str, accept: str) -> AnchorCheck:
        known = {} if accept else self._recorded(model)
        mine = {film: _figures(answer) for film, answer in said if answer.model_sha256 == model}
        fresh = {film: figures for film, figures in mine.items() if film not in known}
        pairs = [(known[film], figures) for film, figures in mine.items() if film in known]
        differences = {part: max(_difference(a, b, part) for a, b in pairs) for part in PARTS} if pairs else {}
        check = AnchorCheck(model_sha256=model, films=len(pairs), recorded=len(fresh), differences=differences)
        digest = self._keep(model, known | fresh) if fresh else self._digest(model)
        detail = {"films": check.films, "recorded": check.recorded, "passed": check.passed, "answers": digest}
        detail |= {"differences": {name: f"{value:.3g}" for name, value in differences.items()}}
        detail |= {"accepted": accept} if accept else {}
        with self._database.write() as session:
            append(session, Act(actor=actor, act=CHECKED, subject=model, detail=detail), now())
        return check

    def _recorded(self, model: str) -> dict[str, Any]:
        """What a model said at first, as the audit knows it; empty where it was never asked."""
        with self._database.read() as session:
            rows = [json.loads(row.body) for row in entries(session, subject=model) if row.act == CHECKED]
        if not rows:
            return {}
        if self._digest(model) != rows[-1]["detail"]["answers"]:
            raise DataError(
                f"The recorded answers of model {model[:12]} to the phantom films are missing or were changed: they "
                "are not those that the audit names. Find out why; --accept REASON records the present ones."
            )
        found: dict[str, Any] = json.loads(self._path(model).read_bytes())
        return found

    def _path(self, model: str) -> Path:
        return self._folder / f"{model}.json"

    def _digest(self, model: str) -> str:
        path = self._path(model)
        return hashlib.sha256(path.read_bytes()).hexdigest() if path.exists() else ""

    def _keep(self, model: str, figures: Mapping[str, Any]) -> str:
        write_bytes(self._path(model), json.dumps(figures, sort_keys=True).encode())
        return self._digest(model)

    def _films(self) -> list[StoredFilm]:
        """The films; drawn once and kept, since another version might draw them otherwise."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        paths = [self._folder / f"phantom-{number}.dcm" for number in range(1, FILMS + 1)]
        if not all(path.exists() for path in paths):
            for path, content in zip(paths, _drawn(), strict=True):
                if not path.exists():
                    write_bytes(path, content)
        return [StoredFilm(path=path, file_sha256=hashlib.sha256(path.read_bytes()).hexdigest()) for path in paths]


def _drawn() -> list[bytes]:
    """Synthetic films as DICOM files: two of each finding, one of each device."""
    from hilum.datasets.phantom.cohort import plan_cohort
    from hilum.datasets.phantom.config import PhantomConfig
    from hilum.datasets.phantom.detector import store
    from hilum.datasets.phantom.rendering import render
    from hilum.datasets.phantom.writing import header
    from hilum.imaging.dicom_writing import film_bytes

    plans = plan_cohort(PhantomConfig(patients=FILMS, size=ROWS, second_film_share=0.0, seed=1))
    return [film_bytes(store(plan.device, render(plan).pixels), header(plan))[0] for plan in plans]


def _figures(answer: NewAnswer) -> dict[str, Any]:
    """An answer as numbers and texts; floats stand with all their digits."""
    seen = answer.observation
    return {
        "label": answer.label,
        "analysed": answer.analysed,
        "abstained": answer.abstained,
        "pixels": [] if seen is None else np.frombuffer(seen.statistics, "<f4").astype(float).tolist(),
        "probabilities": dict(answer.assessment.get("probs") or {}),
        "heat maps": {one.finding: np.frombuffer(one.values, "<f4").astype(float).tolist() for one in answer.heatmaps},
    }


def _difference(first: Mapping[str, Any], again: Mapping[str, Any], part: str) -> float:
    if part == "probabilities" and any(first[name] != again[name] for name in ("label", "analysed", "abstained")):
        return float("inf")
    a, b = (np.array(_numbers(one[part]), dtype=np.float64) for one in (first, again))
    names = [sorted(one[part]) if isinstance(one[part], dict) else len(STATISTICS) for one in (first, again)]
    if a.shape != b.shape or names[0] != names[1]:
        return float("inf")
    return float(np.max(np.abs(a - b) / np.maximum(1.0, np.abs(a)), initial=0.0))


def _numbers(value: Any) -> list[float]:
    """All numbers of a nested value, mappings by name."""
    if isinstance(value, Mapping):
        return [number for name in sorted(value) for number in _numbers(value[name])]
    return [number for one in value for number in _numbers(one)] if isinstance(value, list) else [float(value)]
