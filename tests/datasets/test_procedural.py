"""Images made by procedure: reproducible, balanced, and with targets that say what is in the picture."""

import hashlib

import numpy as np
import pytest

from hilum.datasets.procedural import FACTORS, TEN, ProceduralConfig, procedural_batch, procedural_ten
from hilum.datasets.procedural_shapes import SHAPES, coverage
from hilum.datasets.procedural_textures import ORIENTED, TEXTURES, blur_matrix, interpolation, smooth_noise
from hilum.errors import ConfigError, UsageError

SMALL = ProceduralConfig(size=32, seed=3)


def test_a_batch_has_uint8_images_and_one_class_of_each_factor():
    images, targets = procedural_batch(SMALL, np.arange(5))
    assert images.shape == (5, 3, 32, 32)
    assert images.dtype == np.uint8
    assert list(targets) == list(FACTORS)
    assert all(values.shape == (5,) and values.dtype == np.int64 for values in targets.values())


def test_an_image_is_the_same_in_any_batch():
    whole, targets = procedural_batch(SMALL, np.arange(12))
    part, some = procedural_batch(SMALL, np.array([7, 2]))
    assert np.array_equal(part, whole[[7, 2]])
    assert all(np.array_equal(some[name], targets[name][[7, 2]]) for name in FACTORS)


def test_another_seed_gives_other_images():
    other, _ = procedural_batch(ProceduralConfig(size=32, seed=4), np.arange(4))
    same, _ = procedural_batch(SMALL, np.arange(4))
    assert all(not np.array_equal(a, b) for a, b in zip(other, same, strict=True))


def test_images_differ_from_one_another():
    images, _ = procedural_batch(SMALL, np.arange(200))
    assert len({hashlib.sha256(image.tobytes()).digest() for image in images}) == 200


def test_every_class_of_every_factor_occurs():
    _, targets = procedural_batch(ProceduralConfig(size=16), np.arange(600))
    for name, count in FACTORS.items():
        assert set(targets[name].tolist()) == set(range(count)), name


def test_targets_are_consistent_with_one_another():
    _, targets = procedural_batch(ProceduralConfig(size=16), np.arange(300))
    none = targets["opacities"] == 0
    for name in ("side", "height", "zone", "grain", "border"):
        assert np.array_equal(targets[name] == 0, none), name
    one = targets["opacities"] == 1
    assert (targets["side"][one] < 3).all()
    assert (targets["height"][one] < 3).all()
    empty = targets["shape"] == 0
    assert np.array_equal(empty, targets["edge"] == 0)
    assert np.array_equal(empty, targets["size"] == 0)
    assert np.array_equal(empty, targets["colour"] == FACTORS["colour"] - 1)
    oriented = np.isin(targets["texture"], [list(TEXTURES).index(name) for name in ORIENTED])
    assert np.array_equal(oriented, targets["orientation"] < 4)


@pytest.mark.parametrize(("share", "expected"), [(0.0, 0.0), (1.0, 1.0)])
def test_grey_share_decides_how_many_images_have_no_colour(share, expected):
    images, _ = procedural_batch(ProceduralConfig(size=16, grey_share=share), np.arange(40))
    grey = (images == images[:, :1]).all(axis=(1, 2, 3))
    assert grey.mean() == expected


def test_an_opacity_brightens_the_side_it_is_on():
    """Averaged over many images, the labelled side is the brighter one."""
    images, targets = procedural_batch(ProceduralConfig(size=32, grey_share=1, nuisance=0), np.arange(600))
    lean = images[:, 0, :, :16].mean(axis=(1, 2)) - images[:, 0, :, 16:].mean(axis=(1, 2))
    left, right = lean[targets["side"] == 1], lean[targets["side"] == 2]
    error = np.hypot(left.std() / len(left) ** 0.5, right.std() / len(right) ** 0.5)
    assert left.mean() - right.mean() > 3 * error


def test_the_ten_classes_are_balanced_and_reproducible():
    images, labels = procedural_ten(SMALL, np.arange(30))
    again, _ = procedural_ten(SMALL, np.array([29]))
    assert np.bincount(labels).tolist() == [3] * len(TEN)
    assert np.array_equal(images[29], again[0])
    assert images.shape == (30, 3, 32, 32)


def test_no_two_of_the_ten_classes_share_both_shape_and_surface():
    pairs = [(shape, surface) for _, shapes, surfaces, _ in TEN for shape in shapes for surface in surfaces]
    assert len(pairs) == len(set(pairs))
    assert {shape for shape, _ in pairs} <= set(SHAPES)
    assert {surface for _, surface in pairs} <= set(TEXTURES)


@pytest.mark.parametrize("name", list(TEXTURES))
@pytest.mark.parametrize("frequency", [0, 1, 2])
def test_a_texture_is_float32_within_0_and_1_and_not_flat(name, frequency):
    field = TEXTURES[name](np.random.default_rng(1), 48, frequency, 0.4)
    assert field.dtype == np.float32
    assert field.shape == (48, 48)
    assert field.min() >= -1e-6
    assert field.max() <= 1 + 1e-6
    assert field.std() > 0.02


def test_a_grating_has_the_frequency_of_its_class():
    """The strongest Fourier component of an upright grating lies within the class's cycles."""
    field = TEXTURES["grating"](np.random.default_rng(0), 96, 1, 0.0)
    spectrum = np.abs(np.fft.rfft(field[0] - field[0].mean()))
    assert 5 <= int(spectrum.argmax()) <= 11


@pytest.mark.parametrize("name", list(SHAPES))
def test_a_shape_covers_its_place_and_nothing_far_away(name):
    cover = coverage(np.random.default_rng(2), name, 64, (-0.4, -0.4), 0.4, 0.0)
    assert cover[:40, :40].max() == 1
    assert cover[56:, 56:].max() == 0


def test_a_disc_covers_pi_r_squared():
    cover = coverage(np.random.default_rng(0), "disc", 128, (0.0, 0.0), 0.5, 0.0)
    assert cover.mean() * 4 == pytest.approx(np.pi * 0.25, rel=0.01)


def test_interpolation_and_blur_keep_a_constant():
    assert interpolation(40, 7).sum(axis=1) == pytest.approx(np.ones(40), abs=1e-6)
    assert blur_matrix(40, 12).sum(axis=1) == pytest.approx(np.ones(40), abs=1e-6)


def test_smooth_noise_has_unit_deviation():
    rng = np.random.default_rng(0)
    deviations = [float(smooth_noise(rng, 64, 16).std()) for _ in range(20)]
    assert np.mean(deviations) == pytest.approx(1, abs=0.08)


def test_wrong_fields_are_reported_at_once():
    with pytest.raises(ConfigError) as raised:
        ProceduralConfig(size=8, grey_share=1.5, nuisance=-1)
    assert len(raised.value.problems) == 3
    assert "size is 8, but an image needs 16 pixels" in str(raised.value)
    assert "grey_share is 1.5, but must be within 0" in str(raised.value)
    assert "nuisance is -1, but must be 0 or more" in str(raised.value)


@pytest.mark.parametrize("make", [procedural_batch, procedural_ten])
def test_a_negative_number_is_refused(make):
    with pytest.raises(UsageError, match="Image number -2 is negative"):
        make(SMALL, np.array([1, -2]))
