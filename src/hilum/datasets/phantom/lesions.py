"""What is wrong with a lung: lobar consolidation, and the ground glass of COVID-19.

Both are a share of the lung's air that is lost, 0 … 1. Appearance follows the Fleischner Society's glossary (Hansell
et al. 2008) and the RSNA consensus on COVID-19 (Simpson et al. 2020): consolidation hides vessels and shows bronchi,
ground glass leaves vessels to be seen.
"""

# mypy: disable-error-code="no-any-return"
# NumPy's stubs type arithmetic on arrays of any dtype as Any.

from dataclasses import dataclass

import numpy as np

from hilum.arrays import Array
from hilum.datasets.phantom.anatomy import Chest, Lung
from hilum.datasets.phantom.cohort import FilmPlan
from hilum.datasets.phantom.frame import Frame, double, noise, step
from hilum.datasets.phantom.vessels import HILUM_V, draw_bronchogram
from hilum.datasets.procedural_textures import smooth_noise

LOBES = ("right-upper", "right-middle", "right-lower", "left-upper", "lingula", "left-lower")
"""Where a consolidation may lie."""

VISIBLE = 0.3
"""The mask is where at least this share of the lesion's own strength is reached."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lesion:
    """An abnormality at half resolution; float32 [h, w] each."""

    loss: Array
    """Share of air lost, 0 … 1."""
    hides: Array
    """Share of the vessels' contrast lost, 0 … 1."""
    extent: Array
    """0 … 1: how fully each place is part of the lesion, for the mask."""


def draw_lesion(plan: FilmPlan, chest: Chest, frame: Frame, u: Array, v: Array) -> Lesion | None:
    """The lesion that the plan's label asks for; None for a normal film.

    Args:
        plan: the film; its patient decides where the lesion is, the film how strong.
        chest: soft parts at quarter resolution.
        frame: geometry.
        u: patient coordinate at quarter resolution.
        v: patient coordinate at quarter resolution.
    """
    if plan.label == "pneumonia":
        return _consolidation(plan, chest, frame, u, v)
    if plan.label == "covid-19":
        return _ground_glass(plan, chest, frame, u, v)
    return None


def _ragged(rng: np.random.Generator, shape: tuple[int, int], bumps: int) -> Array:
    """Smooth noise of about unit deviation for uneven borders, at any shape."""
    side = max(shape)
    return smooth_noise(rng, side, bumps)[: shape[0], : shape[1]]


def _consolidation(plan: FilmPlan, chest: Chest, frame: Frame, u: Array, v: Array) -> Lesion:
    person, film = plan.patient_stream("lesion"), plan.stream("lesion")
    lobe = LOBES[int(person.choice(6, p=(0.17, 0.15, 0.23, 0.1, 0.12, 0.23)))]
    lung = chest.lungs[0 if lobe.startswith("right") else 1]
    region = _lobe(lobe, lung, v, person, film)
    region = region * step(lung.inside, 0.02)
    half = frame.shape(2)
    extent = double(region)
    tissue = noise("tissue", film, half)
    # Air spaces fill unevenly: the mottle is strongest where the lesion is thin.
    mottled = np.clip(extent + 0.16 * tissue * extent * (1.3 - extent), 0, 1)
    strength = float(np.clip(film.uniform(0.38, 0.7) / plan.difficulty, 0.02, 0.95))
    inner, outer = _hilum_and_centre(lung, region, u, v)
    air = draw_bronchogram(frame, inner, outer, film)
    loss = np.float32(strength) * mottled * (1 - 0.5 * air)
    return Lesion(loss=loss, hides=np.clip(1.5 * np.float32(strength) * mottled, 0, 0.95), extent=extent)


def _lobe(lobe: str, lung: Lung, v: Array, person: np.random.Generator, film: np.random.Generator) -> Array:
    """How fully each place belongs to the filled part of a lobe: 0 … 1, sharp where a fissure bounds it."""
    rough = 0.06 * _ragged(person, v.shape, 9)
    f, h = lung.lateral + rough, lung.height + 0.8 * rough
    fissure = np.float32(person.uniform(0.44, 0.53)) - 0.05 * lung.lateral + 0.02 * np.sin(3 * lung.lateral)
    reach = float(person.uniform(0.2, 0.42)) + float(film.normal(0, 0.02))
    if lobe == "right-upper":
        return step(fissure - lung.height, 0.025) * step(h - (fissure - reach), 0.16)
    if lobe == "right-middle":
        medial = step(np.float32(person.uniform(0.5, 0.85)) - f, 0.3)
        return step(lung.height - fissure, 0.025) * medial * step(fissure + reach + 0.05 - h, 0.2)
    if lobe == "right-lower":
        return step(h - np.float32(1.0 - reach), 0.16) * step(f - np.float32(person.uniform(-0.2, 0.25)), 0.25)
    if lobe == "left-upper":
        return step(np.float32(person.uniform(0.34, 0.46)) - h, 0.14) * step(h - np.float32(0.44 - reach), 0.14)
    if lobe == "lingula":
        # The heart covers the inner half of the lung here; the lesion has to reach beyond it to be seen.
        medial = step(np.float32(person.uniform(0.75, 0.95)) - f, 0.25)
        return medial * step(h - np.float32(person.uniform(0.4, 0.52)), 0.14) * step(0.88 - h, 0.12)
    return step(h - np.float32(1.0 - reach), 0.14) * step(np.float32(person.uniform(0.85, 1.2)) - f, 0.25)


def _hilum_and_centre(lung: Lung, region: Array, u: Array, v: Array) -> tuple[Array, Array]:
    total = max(float(region.sum()), 1e-6)
    shape = region.shape
    centre = [float((region * np.broadcast_to(axis, shape)).sum()) / total for axis in (u, v)]
    return np.array([lung.side * 0.15, HILUM_V]), np.array(centre)


def _ground_glass(plan: FilmPlan, chest: Chest, frame: Frame, u: Array, v: Array) -> Lesion:
    person, film = plan.patient_stream("lesion"), plan.stream("lesion")
    clear = np.ones(v.shape, dtype=np.float32)
    counts = person.integers(2, 5, size=2)
    for lung, count in zip(chest.lungs, counts.tolist(), strict=True):
        for _ in range(count):
            clear = clear * (1 - _patch(lung, v, frame, person, film))
    extent = double(1 - clear)
    tissue = noise("tissue", film, extent.shape)
    strength = float(np.clip(film.uniform(0.28, 0.48) / plan.difficulty, 0.02, 0.8))
    loss = np.clip(np.float32(strength) * extent * (1 + 0.28 * tissue), 0, 0.95)
    return Lesion(loss=loss, hides=0.25 * extent, extent=extent)


def _patch(lung: Lung, v: Array, frame: Frame, person: np.random.Generator, film: np.random.Generator) -> Array:
    """One hazy patch near the chest wall, more often low than high: 0 … 1."""
    f0 = float(person.uniform(0.72, 1.0))
    h0 = 0.32 + 0.6 * float(person.beta(2.6, 1.5))
    # A patch is longer along the chest wall than into the lung.
    deep, tall = float(person.uniform(0.16, 0.3)), float(person.uniform(0.09, 0.19)) + float(film.normal(0, 0.008))
    distance = np.sqrt(
        ((lung.lateral - np.float32(f0)) / np.float32(deep)) ** 2
        + ((lung.height - np.float32(h0)) / np.float32(tall)) ** 2
    )
    distance = distance + 0.34 * _ragged(person, v.shape, 15)
    veil = np.clip(1.35 - distance, 0, 1)
    return veil * veil * (3 - 2 * veil) * np.float32(person.uniform(0.6, 1.0)) * step(lung.inside, 0.02)
