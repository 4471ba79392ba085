"""Measures of reduced films keep their tolerance, and never change what the gate says."""

import dataclasses

import numpy as np
import pytest
from tests.imaging.grainy_phantoms import COUNT, as_film, stored_values

from hilum.imaging.intended_use import GatePolicy
from hilum.imaging.limits import Limits
from hilum.imaging.preprocessing import Preprocessing
from hilum.imaging.quality import measure_quality
from hilum.imaging.radiograph import FilmFacts
from hilum.imaging.reading import read_film
from hilum.imaging.reduced_quality import APART, reduced_quality
from hilum.imaging.reduced_reading import OVERSAMPLING, ReducedFilm, read_reduced
from hilum.inference.preparing import prepare_film

POLICY = GatePolicy(second_decoder=False)


def to_be_reduced(shape, scale):
    """A preprocessing for which a film is decoded at this fraction of its size, with no pixel to spare."""
    return Preprocessing(size=min(shape) // (scale * OVERSAMPLING), decoding="reduced")


def outcomes(gate):
    return [(check.code, check.outcome, check.refuses) for check in gate.checks]


def measured(stored, syntax, scale):
    """Measures of the reduced and of the whole film; both give the same verdict, and the same words but for figures."""
    content, config = as_film(stored, syntax), to_be_reduced(stored.shape, scale)
    reduced = read_reduced(content, config, Limits())
    assert reduced.scale == scale
    ours, whole = (prepare_film(content, one, POLICY) for one in (config, dataclasses.replace(config, decoding="full")))
    assert outcomes(ours.gate) == outcomes(whole.gate)
    assert ours.gate.analyse
    assert (ours.quality.height, ours.quality.width) == stored.shape
    return reduced_quality(reduced, POLICY), whole.quality


def check(films, syntax, scale):
    """Every film keeps to the tolerance, and none of them had to be decoded whole; how many there were."""
    count = 0
    for stored in films:
        count += 1
        ours, whole = (dataclasses.asdict(one) for one in measured(stored, syntax, scale))
        apart = {name: abs(ours[name] - whole[name]) for name in APART}
        assert all(apart[name] <= most for name, most in APART.items()), apart
        assert set(APART) | {"height", "width"} == set(ours)
    return count


@pytest.mark.parametrize(("syntax", "numbers"), [("jpeg2000-lossless", (0, 8)), ("jpeg2000", (3, 23)), ("jpeg", (0,))])
def test_measures_stay_within_their_tolerance(syntax, numbers):
    """The phantoms whose measures differ most, and one of other sides, at the fewest pixels that are measured."""
    check([stored_values(number, 8 if syntax == "jpeg" else 12, 1152) for number in numbers], syntax, 2)


@pytest.mark.long
@pytest.mark.timeout(1200)
@pytest.mark.parametrize(("side", "scale"), [(1024, 2), (2048, 4)])
@pytest.mark.parametrize("syntax", ["jpeg2000-lossless", "jpeg2000", "jpeg"])
def test_measures_of_all_phantoms_stay_within_their_tolerance(syntax, side, scale):
    """All 24 that have as many rows and columns, at the fewest pixels that are measured."""
    films = (stored_values(number, 8 if syntax == "jpeg" else 12, side) for number in range(COUNT))
    assert check((one for one in films if min(one.shape) >= side), syntax, scale) >= 10


@pytest.mark.parametrize("shape", [(1031, 1103), (1279, 1026), (1555, 2050)])
@pytest.mark.parametrize("syntax", ["jpeg2000-lossless", "jpeg"])
def test_sides_that_no_reduction_divides(chest_like, syntax, shape):
    """Odd rows and columns, which reduced films round up; the gate is told the film's own."""
    stored = chest_like(shape, 12).astype(float) + np.random.default_rng(0).normal(0, 20, shape)
    stored = stored.clip(0, 4095).astype(np.uint16)
    check([(stored >> 4).astype(np.uint8) if syntax == "jpeg" else stored], syntax, 2)


def edge_films():
    """Films of 12 bits at, and on both sides of, everything that the gate asks of pixels, by their names."""
    shape, rng = (1040, 1100), np.random.default_rng(1)
    grain, across = rng.normal(0, 1, shape), np.linspace(0, 1, shape[1])[None]
    chest = stored_values(0, 12)[:1024, :1024].astype(float)
    blocks = np.kron(rng.normal(0, 1, (52, 55)), np.ones((20, 20)))
    films = {
        "blank": np.full(shape, 2000.0),
        "blank with grain": 2000 + 20 * grain,
        "black": np.zeros(shape),
        "white": np.full(shape, 4095.0),
        "noise": 2000 + 600 * grain,
        "noise in blocks": 2000 + 600 * blocks,
        "noise in small blocks": 2000 + 600 * np.kron(rng.normal(0, 1, (260, 275)), np.ones((4, 4))),
        "low contrast": 2000 + 0.03 * (chest - 2000),
        "little contrast": 2000 + 0.3 * (chest - 2000),
        "low contrast with grain": 2000 + 60 * across + 20 * grain,
        "clipped": (chest - 1500) * 3,
        "clipped by grain": chest * 0.2 + 400 * grain[:1024, :1024],
        "upside down": chest[::-1],
        "on its side": chest.T,
        "negative": 4095 - chest,
        "noisy chest": chest + 500 * grain[:1024, :1024],
        "all but a corner black": np.where((across > 0.9) & (np.arange(shape[0]) > 900)[:, None], 3000.0, 0.0),
    }
    for share in (0.95, 0.96, 0.97, 0.98, 0.99):
        films[f"black for {share:.0%}"] = np.where(across >= share, 3000.0, 10.0) + 5 * grain
    for level in (0.008, 0.01, 0.012):
        films[f"black up to {level}"] = np.where(across > 0.99, 3000.0, level * 4095) + 10 * grain
        films[f"white from {1 - level}"] = np.where(across > 0.99, 3000.0, (1 - level) * 4095) + 10 * grain
    for height in (60, 82, 100, 200, 400):
        films[f"a contrast of {height} codes"] = 2000 + height * across + 0 * grain
    return {name: one.clip(0, 4095).astype(np.uint16) for name, one in films.items()}


def test_the_gate_says_the_same_of_films_at_its_limits():
    """Blank, noisy, clipped and faint films get the verdict and, where they are refused, the words of whole films."""
    doubted = set()
    for name, stored in edge_films().items():
        content, config = as_film(stored, "jpeg2000-lossless"), to_be_reduced(stored.shape, 2)
        # Lossless: what is stored plainly is the whole film, and needs no decoder.
        whole = prepare_film(as_film(stored, "explicit-le"), dataclasses.replace(config, decoding="full"), POLICY)
        ours = prepare_film(content, config, POLICY)
        assert outcomes(ours.gate) == outcomes(whole.gate), name
        assert ours.gate.reasons == whole.gate.reasons, name
        if ours.quality == whole.quality:
            doubted.add(name)
        else:
            assert ours.gate.analyse, name
    assert doubted >= {"blank", "noise", "black", "white", "low contrast", "a contrast of 82 codes", "black for 98%"}
    assert not doubted & {"noisy chest", "clipped by grain", "upside down", "a contrast of 400 codes"}


def of_pixels(pixels):
    return ReducedFilm(
        pixels=pixels,
        shape=(4 * len(pixels), 4 * pixels.shape[1]),
        scale=4,
        shift=0,
        checked=True,
        facts=FilmFacts(format="dicom"),
    )


def test_what_has_to_be_measured_whole(chest_like):
    """A limit that lies near enough to a measure, whatever the site sets it to, and too few pixels."""
    pixels = chest_like((560, 600), 12) * np.uint16(16)
    found = reduced_quality(of_pixels(pixels), POLICY)
    assert found == dataclasses.replace(measure_quality(pixels), height=2240, width=2400)
    limits = {
        "minimum_contrast": found.contrast - APART["contrast"],
        "minimum_structure": found.structure - APART["structure"],
        "maximum_flat_share": max(found.black_share, found.white_share) + APART["black_share"],
    }
    for name, limit in limits.items():
        for beside, whole in ((0.001, False), (-0.001, True)):
            moved = limit + (beside if name == "maximum_flat_share" else -beside)
            policy = dataclasses.replace(POLICY, **{name: moved})
            assert (reduced_quality(of_pixels(pixels), policy) is None) == whole, name
    for near in (found.frontal_fit - 0.015, found.frontal_fit + 0.015):
        assert reduced_quality(of_pixels(pixels), dataclasses.replace(POLICY, minimum_frontal_fit=near)) is None
    assert reduced_quality(of_pixels(pixels[:511]), POLICY) is None
    assert reduced_quality(of_pixels(pixels[:512]), POLICY) is not None


def test_clipped_pixels_are_counted_where_they_lie_together(chest_like):
    """Areas of pure black count as in the whole film; single black pixels are averaged away, as `APART` allows."""
    stored = chest_like((1200, 1200), 12)
    stored[:, :300] = 0
    together = read_reduced(as_film(stored, "jpeg2000-lossless"), to_be_reduced(stored.shape, 2), Limits())
    assert reduced_quality(together, POLICY).clipped_black == pytest.approx(0.25, abs=0.01)
    stored = chest_like((1200, 1200), 12)
    stored[np.random.default_rng(0).random(stored.shape) < 0.05] = 0
    content = as_film(stored, "jpeg2000-lossless")
    apart = read_reduced(content, to_be_reduced(stored.shape, 2), Limits())
    assert reduced_quality(apart, POLICY).clipped_black < 0.001
    assert measure_quality(read_film(content).pixels).clipped_black == pytest.approx(0.05, abs=0.01)
