"""One film from its plan: a pure function of the plan."""

# mypy: disable-error-code="no-any-return"
# NumPy's stubs type arithmetic on arrays of any dtype as Any.

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from hilum.arrays import Array, Mask
from hilum.datasets.phantom.anatomy import Body, Chest, draw_body, draw_chest, draw_frame
from hilum.datasets.phantom.bones import draw_bones, draw_spine
from hilum.datasets.phantom.cohort import FilmPlan
from hilum.datasets.phantom.detector import expose
from hilum.datasets.phantom.distractors import draw_distractors
from hilum.datasets.phantom.frame import Frame, double, noise, step
from hilum.datasets.phantom.lesions import VISIBLE, Lesion, draw_lesion
from hilum.datasets.phantom.vessels import draw_airways, draw_vessels

AIR = 0.44
"""Density that the deepest lung takes away."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PhantomFilm:
    """A rendered film."""

    pixels: Float[np.ndarray, "h w"]
    """float32, 0 black … 1 white."""
    lesion: Mask
    """Where the abnormality is; empty for a normal film."""
    lungs: Mask
    """The aerated lungs as seen: without heart and mediastinum."""


def render(plan: FilmPlan) -> PhantomFilm:
    """Draw a film.

    Args:
        plan: everything that decides it; equal plans give equal films in any process.

    Returns:
        pixels, lesion mask and lung mask, each [plan.rows, plan.columns].
    """
    body, frame = draw_body(plan), draw_frame(plan)
    u, v = frame.coordinates(4)
    chest = draw_chest(body, u, v)
    lesion = draw_lesion(plan, chest, frame, u, v)
    pleura = step(double(np.maximum(chest.lungs[0].inside, chest.lungs[1].inside)), 0.012)
    heart_distance = double(chest.heart)
    heart = step(heart_distance, 0.014)
    soft, hard = draw_distractors(body, frame, plan.stream("distractors"), portable=plan.view == "AP")
    density = double(_smooth_density(body, frame, chest, soft))
    density -= np.float32(AIR) * _air(plan, chest, lesion, pleura, heart, heart_distance)
    density += draw_bones(body, frame, plan.patient_stream("bones")) * _bone_contrast(chest, body, v, pleura, heart)
    vessels = draw_vessels(body, frame, plan.patient_stream("vessels")) * pleura * (1 - 0.7 * heart)
    if lesion is not None:
        vessels *= 1 - lesion.hides
    density += np.float32(0.1 * body.vascular) * vessels + hard
    return PhantomFilm(pixels=expose(plan, density), **_masks(lesion, pleura * (1 - heart) > 0.5))


def _smooth_density(body: Body, frame: Frame, chest: Chest, soft: Array) -> Array:
    """What has no sharp edge, at a quarter resolution: tissue, spine, airways, soft shadows."""
    inside = step(chest.outline, 0.02)
    return (chest.tissue + draw_spine(body, frame) + soft) * inside - 0.13 * draw_airways(body, frame)


def _bone_contrast(chest: Chest, body: Body, v: Array, pleura: Array, heart: Array) -> Array:
    """Bones show over the lungs and hardly over the heart and the abdomen, where few photons arrive."""
    above = np.clip(1 - (v - np.float32(min(body.dome) - 0.05)) * 4, 0.3, 1) * step(chest.outline, 0.02)
    return np.maximum(double(above), pleura) * (1 - 0.45 * heart)


def _air(
    plan: FilmPlan, chest: Chest, lesion: Lesion | None, pleura: Array, heart: Array, heart_distance: Array
) -> Array:
    """The air that is left in the lungs, at half resolution: less behind the heart, less where it is diseased."""
    behind = 1 - (0.72 + 0.1 * np.clip(heart_distance * 5, 0, 1)) * heart
    air = double(chest.air) * pleura * behind
    if lesion is not None:
        air *= 1 - lesion.loss
    rng = plan.stream("tissue")
    air *= 1 + np.float32(rng.uniform(0.02, 0.045)) * noise("tissue", rng, air.shape)
    return air


def _masks(lesion: Lesion | None, lungs: Mask) -> dict[str, Mask]:
    sick = np.zeros_like(lungs) if lesion is None else (lesion.extent > VISIBLE) & lungs
    return {"lesion": sick.repeat(2, 0).repeat(2, 1), "lungs": lungs.repeat(2, 0).repeat(2, 1)}
