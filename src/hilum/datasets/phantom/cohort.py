"""Who is filmed, where, when and with what finding: the plan of a cohort, before any pixel is drawn.

Each hospital has as many patients of each finding, and everything else that a header tells (sex, age, view, dates,
the marker) is drawn without a look at the finding. So a model that reads only the header is at chance.
"""

from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np

from hilum.datasets.phantom.config import MARKER_STYLES, Device, PhantomConfig
from hilum.labels import CHEST
from hilum.randomness import stream

FIRST_DAY = date(2024, 1, 8)
"""First day of the invented study period, which lasts a year."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FilmPlan:
    """Everything that decides one film."""

    patient: int
    """Number of the patient in the cohort, from 0."""
    film: int
    """Number of the film of this patient, from 0."""
    label: str
    """One of the chest findings."""
    hospital: str
    """Name of the hospital: the film's source."""
    device: Device
    """The machine it was taken with."""
    view: str
    """PA or AP."""
    sex: str
    """F or M."""
    age_years: int
    """Age, 18 or more."""
    acquired: date
    """Invented day of acquisition."""
    marker: str
    """Style of the laterality letter."""
    rows: int
    """Height in pixels."""
    difficulty: float
    """See :class:`PhantomConfig`."""
    seed: int
    """The cohort's seed."""

    @property
    def patient_id(self) -> str:
        """The pseudonym, such as ``PHANTOM-000123``."""
        return f"PHANTOM-{self.patient:06d}"

    @property
    def name(self) -> str:
        """Name of the film's files, without a suffix."""
        return f"{self.patient_id}-{self.film + 1}"

    @property
    def columns(self) -> int:
        """Width in pixels, divisible by four."""
        return round(self.rows * self.device.aspect / 4) * 4

    def stream(self, *names: str | int) -> np.random.Generator:
        """Chance that is this film's own."""
        return stream(self.seed, "phantom", self.patient, self.film, *names)

    def patient_stream(self, *names: str | int) -> np.random.Generator:
        """Chance shared by all films of this patient."""
        return stream(self.seed, "phantom", self.patient, *names)


def plan_cohort(config: PhantomConfig) -> tuple[FilmPlan, ...]:
    """All films of a cohort, by patient and film.

    Args:
        config: the cohort.

    Returns:
        one plan a film; the same for the same config, whatever else runs.
    """
    cells = len(config.hospitals) * len(CHEST)
    # The order of patients says nothing about their cell: places are dealt out by a seeded shuffle.
    places = stream(config.seed, "phantom", "cohort").permutation(config.patients)
    return tuple(
        plan for patient, place in enumerate(places.tolist()) for plan in _plans(config, patient, place % cells)
    )


def _plans(config: PhantomConfig, patient: int, cell: int) -> list[FilmPlan]:
    hospital, finding = divmod(cell, len(CHEST))
    label, device = CHEST.name(finding), config.device(hospital)
    rng = stream(config.seed, "phantom", patient, "header")
    sex, age = "FM"[int(rng.integers(2))], int(rng.integers(18, 90))
    day = FIRST_DAY + timedelta(days=int(rng.integers(0, 350)))
    films = 2 if rng.random() < config.second_film_share else 1
    plans = []
    for film in range(films):
        follows = rng.random() < config.shortcut
        drawn = int(rng.choice(len(MARKER_STYLES), p=device.marker_share))
        plans.append(
            FilmPlan(
                patient=patient,
                film=film,
                label=label,
                hospital=config.hospitals[hospital],
                device=device,
                view="PA" if rng.random() < 0.6 else "AP",
                sex=sex,
                age_years=age,
                acquired=day,
                marker=MARKER_STYLES[finding if follows else drawn],
                rows=config.size,
                difficulty=config.difficulty,
                seed=config.seed,
            )
        )
        day += timedelta(days=int(rng.integers(1, 8)))
    return plans
