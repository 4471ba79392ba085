"""The soft parts: body, lungs, heart and great vessels, diaphragm, as distances and densities.

A film is bright where little air was in the ray's way. So the heart and the diaphragm are seen because they push air
aside, and a consolidation beside the heart takes away its border: the silhouette sign comes out by itself.
"""

# mypy: disable-error-code="no-any-return"
# NumPy's stubs type arithmetic on arrays of any dtype as Any.

from dataclasses import dataclass

import numpy as np

from hilum.arrays import Array
from hilum.datasets.phantom.cohort import FilmPlan
from hilum.datasets.phantom.frame import Frame, step

SIDES = (-1, 1)
"""−1 is the left of the picture, the patient's right."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Body:
    """A patient as filmed once. Lengths in patient units (about 18 cm)."""

    thorax: float
    """Half-width of the chest cavity."""
    apex: float
    """v of the lung tops."""
    dome: tuple[float, float]
    """v of the diaphragm's domes, right and left lung."""
    mediastinum: float
    """Half-width of the mediastinum above the heart."""
    heart: float
    """Half-width of the heart."""
    heart_tilt: float
    """Angle of its long axis below the horizontal, radians."""
    knob: float
    """Radius of the aortic knob: it grows with age."""
    rotated: float
    """How far front structures are shifted to the picture's right by a turn of the trunk."""
    girth: float
    """Soft tissue over the chest, 0.8 lean … 1.3 stout."""
    breast: tuple[float, float]
    """Strength of each breast's shadow; faint for most men, and now and then of one side only."""
    scapula: float
    """How far the shoulder blades lie over the lungs, in units."""
    flank: float
    """Strength of the soft tissue along the chest wall, which veils the lungs' outer parts."""
    crowding: float
    """Strength of the haze at the bases that a shallow breath leaves."""
    aeration: tuple[float, float]
    """Air in each lung against the usual; a turned trunk makes one lung darker."""
    stomach: float
    """Size of the stomach's air bubble."""
    rib_step: float
    """Distance between ribs along the spine."""
    rib_drop: float
    """How steeply ribs fall."""
    vascular: float
    """Strength of the vessels."""


def draw_body(plan: FilmPlan) -> Body:
    """The patient's build (the same in all films), as positioned and breathing in this film."""
    person, film = plan.patient_stream("body"), plan.stream("pose")
    portable = plan.view == "AP"
    depth = float(film.normal(-0.06 if portable else 0.0, 0.05))  # inspiration
    dome = float(person.normal(0.46, 0.035)) + depth
    older = (plan.age_years - 50) / 100
    female = plan.sex == "F"
    breast = float(person.uniform(0.25, 1.0)) if female else float(person.uniform(0, 0.35))
    one_sided = 0.15 if person.random() < 0.06 else 1.0
    turned = float(film.normal(0, 0.06))
    volume = float(film.normal(0.98, 0.06))
    return Body(
        thorax=float(person.normal(0.72 if female else 0.75, 0.025)),
        apex=float(person.normal(-0.77, 0.02)) - 0.2 * depth,
        dome=(dome, dome + float(person.normal(0.05, 0.02))),
        mediastinum=float(person.uniform(0.095, 0.125)) * (1.12 if portable else 1.0) + 0.03 * older,
        heart=float(person.normal(0.315, 0.025)) * (1.1 if portable else 1.0) - 0.25 * depth,
        heart_tilt=float(person.normal(0.62, 0.08)) + 0.8 * depth,
        knob=0.075 + 0.04 * older + float(person.uniform(-0.01, 0.015)),
        rotated=float(film.normal(0, 0.022)),
        girth=float(person.uniform(0.82, 1.25)),
        breast=(breast * float(film.uniform(0.7, 1.15)), breast * one_sided * float(film.uniform(0.7, 1.15))),
        scapula=float(film.uniform(0.08, 0.22)) if portable else float(film.uniform(-0.06, 0.08)),
        flank=float(person.uniform(0.0, 0.11)) * float(film.uniform(0.7, 1.3)),
        crowding=float(np.clip(0.03 - 0.5 * depth + film.normal(0, 0.03), 0, 0.12)),
        aeration=(volume + turned, volume - turned),
        stomach=float(film.uniform(0.02, 0.15)),
        rib_step=float(person.normal(0.138, 0.005)),
        rib_drop=float(person.normal(1.0, 0.12)) * (0.85 if portable else 1.0),
        vascular=float(person.uniform(0.7, 1.3)) * (1.1 if portable else 1.0),
    )


def draw_frame(plan: FilmPlan) -> Frame:
    """How the film was framed."""
    rng = plan.stream("frame")
    return Frame(
        rows=plan.rows,
        columns=plan.columns,
        zoom=plan.device.zoom * float(rng.uniform(0.88, 1.12)),
        turn=float(np.clip(rng.normal(0, 0.045), -0.12, 0.12)),
        shift=(float(np.clip(rng.normal(0, 0.05), -0.14, 0.14)), float(np.clip(rng.normal(0.0, 0.06), -0.14, 0.14))),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Lung:
    """One lung at quarter resolution; float32 [h, w] each."""

    side: int
    """−1 or 1, see :data:`SIDES`."""
    inside: Array
    """Signed distance to its border, positive inside, before the heart is taken out."""
    lateral: Array
    """0 at the mediastinum … 1 at the chest wall."""
    height: Array
    """0 at the apex … 1 at the diaphragm."""


def chest_wall(body: Body, v: Array) -> Array:
    """Half-width of the chest cavity at each v."""
    t = np.clip((v - np.float32(body.apex)) / np.float32(0.68 - body.apex), 0, 1)
    return 0.2 + np.float32(body.thorax - 0.2) * np.sqrt(np.clip(1 - (1 - t) ** 2.5, 0, 1)) - 0.05 * t**6


def diaphragm(body: Body, side: int, w: Array) -> Array:
    """v of the diaphragm at each distance w from the midline: a dome that falls steeply at the chest wall."""
    dome = body.dome[0 if side < 0 else 1]
    out = (w - np.float32(0.5 * body.thorax)) / np.float32(0.5 * body.thorax)
    return np.float32(dome) + np.where(out > 0, 0.2 * out**2 + 0.1 * np.clip(out, 0, 1.2) ** 6, 0.11 * out**2)


def draw_lung(body: Body, side: int, u: Array, v: Array) -> Lung:
    """A lung between the mediastinum, the chest wall and the diaphragm."""
    w = side * u - np.float32(side * 0.3 * body.rotated)
    wall, floor = chest_wall(body, v), diaphragm(body, side, w)
    # Towards the apex the mediastinum widens to the neck's root, so the lung ends in a round tip.
    inner = body.mediastinum * 0.75 + 0.13 * np.exp(np.float32(-14) * np.clip(v - np.float32(body.apex), 0, 2))
    inside = np.minimum(
        np.minimum((wall - w) * 0.9, w - inner), np.minimum(floor - v, (v - np.float32(body.apex)) * 0.8)
    )
    return Lung(
        side=side,
        inside=inside,
        lateral=np.clip((w - inner) / np.maximum(wall - inner, 0.02), -0.5, 1.5),
        height=np.clip((v - np.float32(body.apex)) / np.maximum(floor - np.float32(body.apex), 0.05), -0.5, 1.5),
    )


def _ellipse(u: Array, v: Array, centre: tuple[float, float], axes: tuple[float, float], tilt: float = 0.0) -> Array:
    """Signed distance, about right near the border, positive inside."""
    c, s = np.float32(np.cos(tilt)), np.float32(np.sin(tilt))
    du, dv = u - np.float32(centre[0]), v - np.float32(centre[1])
    a, b = (c * du + s * dv) / np.float32(axes[0]), (c * dv - s * du) / np.float32(axes[1])
    return (1 - np.sqrt(a * a + b * b)) * np.float32(min(axes))


def draw_heart(body: Body, u: Array, v: Array) -> Array:
    """Signed distance to the heart and great vessels, positive inside: the mediastinal contour."""
    x = u - np.float32(body.rotated)
    floor = min(body.dome) + 0.03
    half = body.heart
    contour = _ellipse(x, v, (0.42 * half, floor - 0.58 * half), (1.15 * half, 0.76 * half), body.heart_tilt)
    atrium = _ellipse(x, v, (-0.2 * half, floor - 0.68 * half), (0.36 * half + 0.03, 0.6 * half))
    trunk = _ellipse(x, v, (0.035, floor - 1.42 * half), (0.145, 0.17))
    knob = _ellipse(x, v, (0.075 + 0.3 * body.knob, -0.36), (body.knob, body.knob * 1.1))
    pedicle = np.minimum(np.float32(body.mediastinum) - np.abs(x - 0.01), v + 1.2)
    pedicle = np.minimum(pedicle, np.float32(floor) - v)
    parts = (contour, atrium, trunk, knob, pedicle)
    # A soft maximum rounds the notches between the parts.
    return np.log(sum(np.exp(np.float32(40) * np.clip(part, -0.5, 0.5)) for part in parts)) / np.float32(40)


@dataclass(frozen=True, slots=True, kw_only=True)
class Chest:
    """The soft parts of one film at quarter resolution; float32 [h, w]."""

    tissue: Array
    """Density of everything but air: 0 outside the body … about 1."""
    air: Array
    """Air in the ray's way inside each lung's border, 0 … 1, before the heart is taken out; borders are not cut yet."""
    lungs: tuple[Lung, Lung]
    """The picture's left and right lung."""
    heart: Array
    """Signed distance to the mediastinal contour."""
    outline: Array
    """Signed distance to the skin, positive inside."""


def draw_chest(body: Body, u: Array, v: Array) -> Chest:
    """All soft parts."""
    lungs = (draw_lung(body, -1, u, v), draw_lung(body, 1, u, v))
    inside = np.maximum(lungs[0].inside, lungs[1].inside)
    deep = np.clip(inside / np.float32(0.24), 0, 1)
    rise = np.clip((v - np.float32(body.apex)) * 1.6, 0, 1)
    air = (0.42 + 0.58 * (1 - (1 - deep) ** 2)) * (0.62 + 0.38 * rise)
    air = air * np.where(u < 0, np.float32(body.aeration[0]), np.float32(body.aeration[1]))
    heart = draw_heart(body, u, v)
    outline = _outline(body, u, v)
    return Chest(tissue=_tissue(body, u, v, outline, heart), air=air, lungs=lungs, heart=heart, outline=outline)


def _outline(body: Body, u: Array, v: Array) -> Array:
    """Signed distance to the skin: neck, sloping shoulders, flanks."""
    w = np.abs(u)
    shoulder = v - (-0.99 + 0.5 * np.clip(w - 0.24, 0, 2) ** 1.5)
    flank = np.float32(body.thorax + 0.13 + 0.12 * (body.girth - 0.8)) + 0.16 * np.clip(-v - 0.1, 0, 1) - w
    neck = np.float32(0.21 + 0.04 * body.girth) - w
    return np.maximum(np.minimum(shoulder, flank), neck)


def _tissue(body: Body, u: Array, v: Array, outline: Array, heart: Array) -> Array:
    w = np.abs(u)
    thick = 0.60 + 0.12 * np.float32(body.girth - 1)
    wall = np.clip(outline / np.float32(0.3), 0, 1)
    tissue = thick * (0.35 + 0.65 * (1 - (1 - wall) ** 2))
    tissue = tissue + 0.11 * np.exp(-((w / np.float32(0.2)) ** 2)) + 0.11 * np.clip(heart / np.float32(0.25), 0, 1)
    belly = np.clip((v - np.float32(min(body.dome))) * 3, 0, 1)
    tissue = tissue + 0.11 * belly + 0.05 * np.clip((v - 0.1), 0, 1) - 0.06 * np.clip(-v - 0.55, 0, 1) * 2
    # Below the left dome lies the stomach's air, more or less of it.
    size = np.float32(body.stomach)
    bubble = _ellipse(u, v, (0.36, body.dome[1] + 0.05 + 0.5 * body.stomach), (1.2 * body.stomach, 0.5 * body.stomach))
    tissue = tissue - size * step(bubble, 0.06)
    veil = body.flank * np.clip((w - 0.35) * 2.5, 0, 1) + body.crowding * np.clip((v + 0.05) * 2, 0, 1)
    return tissue + veil.astype(np.float32) + _breasts(body, u, v)


def _breasts(body: Body, u: Array, v: Array) -> Array:
    """Two soft shadows over the lower zones whose lower border is the sharper one."""
    total = np.zeros_like(u)
    for side, strength in zip(SIDES, body.breast, strict=True):
        disc = _ellipse(u, v, (side * 0.43, 0.30), (0.33, 0.30), side * 0.25)
        lower = np.clip((v - 0.1) * 3, 0, 1)
        total += np.float32(0.13 * strength) * np.clip(disc / np.float32(0.22), 0, 1) * (0.4 + 0.6 * lower)
    return total
