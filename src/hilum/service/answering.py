"""What the workflow needs of a model, and no more; :mod:`hilum.service.bundled` is the real one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from hilum.bundle.card import ModelCard
from hilum.errors import ServiceError
from hilum.imaging.viewing import ViewerFilm
from hilum.records.values import HeatmapRecord, Identity, NewAnswer
from hilum.service.film_files import StoredFilm

LINES = 2
"""Batches in the model at once."""


class ModelDied(ServiceError):
    """The model's process ended, hung or ran out of memory over a batch; another one is started in its place."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """The model in service."""

    sha256: str
    """Digest of the bundle: the version that answers are recorded under."""
    name: str
    """Its name."""
    version: str
    """Its version, for people."""
    findings: tuple[str, ...]
    """What it tells apart."""
    thresholds: Mapping[str, float] = field(default_factory=dict)
    """Operating points: a finding is positive from this probability on."""
    validated: tuple[str, ...] = ()
    """What it was tested on, a sentence each."""
    not_validated: tuple[str, ...] = ()
    """What it is not for or was not tested on, and what its tests warn of."""
    card: ModelCard | None = None
    """What its bundle says of it; None when there is no card."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ready:
    """A film that is read, checked and ready for the model."""

    identity: Identity
    """Who it says it is of."""
    prepared: Any
    """What the model takes; opaque to the workflow."""
    read_for: Any = None
    """How it was read: films read in the same way suit either of two models."""


class Answering(Protocol):
    """Reads films and answers them."""

    @property
    def model(self) -> Model:
        """The model in service."""

    @property
    def trouble(self) -> str | None:
        """Why no film can be answered just now, in one sentence; None when all is well."""

    def prepare(self, film: StoredFilm) -> Ready:
        """Read one film, apart from this process; raises FilmError. Called from several threads."""

    def answer(self, films: Sequence[Ready]) -> Sequence[NewAnswer]:
        """Answer films, one answer each, in their order. Called from :data:`LINES` threads.

        Raises:
            ModelDied: the model's process ended over them.
        """


class Drawing(Protocol):
    """Draws films and heat maps for people; both raise FilmError and are called from several threads."""

    def film(self, film: StoredFilm) -> bytes:
        """The film as a grey PNG."""

    def pixels(self, film: StoredFilm) -> ViewerFilm:
        """The film's 16-bit values, for a viewer that sets its own window."""

    def heatmap(
        self,
        film: StoredFilm,
        heatmap: HeatmapRecord,
        *,
        assessment: Mapping[str, Any],
        layer: bool,
        style: str = "heat",
    ) -> bytes:
        """The heat map over the film as a PNG; with ``layer`` the heat map alone, transparent where it is zero.

        The assessment that it belongs to says how the film was preprocessed; ``style`` is ``heat`` or ``contour``.
        """
