"""Views: the same wherever they are made, and as far from the film as said."""

from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from PIL import Image

from hilum.errors import ConfigError
from hilum.training.augmentation import Augmentation, _draw, _grid, _grid_on, clean, make_views

STILL = Augmentation(**{field.name: 0.0 for field in fields(Augmentation) if field.name != "horizontal_flip"})


def films(count: int = 6, size: tuple[int, int] = (21, 17), channels: int = 1) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (count, channels, *size), generator=generator, dtype=torch.uint8)


IDS = [f"film-{i}" for i in range(6)]


BEFORE_CROP = [
    *(1.084687846490006, 0.17140188541853613, -0.17140188541853613, 1.084687846490006),  # matrix
    *(-0.005877807378415523, 0.046275357923900785),  # shift
    *(-0.006727025130501132, 0.015575737269466195),  # one node
    *(0.018712624486653853, 0.5420312881469727),  # noise, tone of 100
]
"""Of ``Augmentation(horizontal_flip=True)``, seed 7, film-0, view 2, at the first release."""

EVERYTHING = Augmentation(horizontal_flip=True, crop=0.4, cutout=0.3)


@pytest.mark.parametrize("channels", [1, 3])
def test_view_does_not_depend_on_the_batch(channels: int) -> None:
    """Bit for bit: alone, in another order, among others."""
    stack = films(channels=channels)
    whole = make_views(stack, IDS, 3, config=EVERYTHING, seed=0)
    for rows in ([2], [5, 2, 0], [1, 2, 3, 4]):
        part = make_views(stack[rows], [IDS[i] for i in rows], 3, config=EVERYTHING, seed=0)
        assert torch.equal(part, whole[rows])


def test_views_of_earlier_releases_are_drawn_as_they_were() -> None:
    """What was drawn before crop and cutout were there, as it was then."""
    draw = _draw(Augmentation(horizontal_flip=True), 7, "film-0", 2)
    np.testing.assert_allclose(
        [*draw.turn, *draw.shift, *draw.nodes[:, 1, 2], draw.noise, float(draw.tone[100])],
        BEFORE_CROP,
        rtol=1e-12,
        atol=1e-7,
    )


def test_the_grid_of_a_gpu_is_that_of_the_cpu() -> None:
    """The code for other devices, here on the CPU, to a hundredth of a pixel of 224."""
    draws = [_draw(EVERYTHING, 0, name, 1) for name in IDS]
    on_cpu, other = (make(draws, 224, 160, torch.device("cpu")) for make in (_grid, _grid_on))
    np.testing.assert_allclose(other.numpy(), on_cpu.numpy(), atol=1e-6)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_views_on_a_gpu_are_those_of_the_cpu_up_to_rounding() -> None:
    stack = films(size=(64, 64))
    views = make_views(stack.cuda(), IDS, 1, config=EVERYTHING, seed=0).cpu()
    np.testing.assert_allclose(views.numpy(), make_views(stack, IDS, 1, config=EVERYTHING, seed=0).numpy(), atol=1e-4)


def test_a_crop_is_a_window_of_the_film_at_full_size() -> None:
    """On ramps across and down a view's greys rise evenly, over a share of the film that the crop allows."""
    ramp = torch.arange(0, 252, 4, dtype=torch.uint8).repeat(63, 1)
    stack = torch.stack([ramp, ramp.T])[:, None].repeat(50, 1, 1, 1)
    ids = [str(i // 2) for i in range(100)]
    views = make_views(stack, ids, 1, config=replace(STILL, crop=0.4), seed=0)[:, 0, 8:-8, 8:-8].numpy() * 255 / 4
    across, down = views[0::2, :, 1:] - views[0::2, :, :-1], views[1::2, 1:] - views[1::2, :-1]
    kept = across.mean((1, 2))
    assert across.std((1, 2)).max() < 0.01
    np.testing.assert_allclose(kept, down.mean((1, 2)), atol=1e-3)
    assert 0.6 <= kept.min() < 0.64
    assert 0.96 < kept.max() <= 1
    left = views[0::2, 0, 0] - 8 * kept + (kept - 1) / 2  # first column of the window, in the film's pixels
    assert left.min() > -0.01
    assert (left + 63 * kept).max() < 63.01
    assert left.std() > 1


def test_a_cutout_blanks_one_square_anywhere_and_nothing_else() -> None:
    stack = films(40, size=(50, 50))
    ids = [str(i) for i in range(40)]
    with_hole, whole = (make_views(stack, ids, 1, config=replace(Augmentation(), cutout=c), seed=0) for c in (0.2, 0))
    changed = (with_hole != whole)[:, 0]
    assert (with_hole[:, 0][changed] == 0.5).all()
    for one in changed:
        y, x = np.nonzero(one.numpy())
        assert np.ptp(y) < 10
        assert np.ptp(x) < 10
    assert 60 < changed.sum((1, 2)).double().mean() <= 100
    assert changed.any(0).double().mean() > 0.6


def test_views_differ_by_number_film_and_seed() -> None:
    stack = films(1).expand(2, -1, -1, -1)
    one, two = make_views(stack, IDS[:2], 1, config=Augmentation(), seed=0)
    assert not torch.equal(one, two)
    assert not torch.equal(one, make_views(stack, IDS[:2], 2, config=Augmentation(), seed=0)[0])
    assert not torch.equal(one, make_views(stack, IDS[:2], 1, config=Augmentation(), seed=1)[0])


def test_view_zero_is_the_film() -> None:
    assert torch.equal(make_views(films(), IDS, 0, config=Augmentation(), seed=0), clean(films()))
    assert clean(films()).max() <= 1


def test_nothing_turned_on_changes_nothing() -> None:
    """Up to the rounding of the resampling grid."""
    view = make_views(films(), IDS, 1, config=STILL, seed=0)
    np.testing.assert_allclose(view.numpy(), clean(films()).numpy(), atol=2e-5)


@pytest.mark.parametrize("field", [f.name for f in fields(Augmentation)])
def test_each_amount_changes_something(field: str) -> None:
    """Alone; and within 0 … 1."""
    config = replace(STILL, **{field: True if field == "horizontal_flip" else 0.05})
    views = make_views(films(), IDS, 1, config=config, seed=0)
    assert (views - clean(films())).abs().max() > 1e-3
    assert views.min() >= 0
    assert views.max() <= 1


def test_turning_one_amount_off_leaves_the_others() -> None:
    """Noise apart, the view is the same with noise and without."""
    loud, still = (make_views(films(), IDS, 1, config=Augmentation(noise=n), seed=0) for n in (0.02, 0.0))
    assert 0 < (loud - still).abs().mean() < 0.02


def test_flip_is_off_by_default_and_mirrors_about_half() -> None:
    assert not Augmentation().horizontal_flip
    ids = [str(i) for i in range(200)]
    stack = films(1).expand(200, -1, -1, -1)
    views = make_views(stack, ids, 1, config=replace(STILL, horizontal_flip=True), seed=0)
    mirrored = (views - clean(stack).flip(3)).abs().amax((1, 2, 3)) < 1e-4
    kept = (views - clean(stack)).abs().amax((1, 2, 3)) < 1e-4
    assert (mirrored | kept).all()
    assert 70 < mirrored.sum() < 130


def test_rotation_agrees_with_pillow() -> None:
    """A smooth film turned by the same angle, away from the border."""
    y, x = np.mgrid[-1:1:64j, -1:1:64j]
    film = np.round(127 + 100 * np.sin(3 * x + 1) * np.cos(2 * y)).astype(np.uint8)
    view = make_views(torch.from_numpy(film)[None, None], ["f"], 1, config=replace(STILL, rotation_degrees=10), seed=0)

    def difference(angle: float) -> float:
        turned = np.asarray(Image.fromarray(film).rotate(angle, Image.Resampling.BILINEAR), dtype=np.float32) / 255
        return float(np.abs(turned - view[0, 0].numpy())[16:48, 16:48].mean())

    angles = np.linspace(-10, 10, 81)
    best = angles[int(np.argmin([difference(angle) for angle in angles]))]
    assert difference(best) < 0.003
    assert abs(best) > 0.5


def test_gamma_by_hand() -> None:
    """One exponent a film: black and white stay, and log grey is scaled evenly."""
    ramp = torch.arange(256, dtype=torch.uint8).reshape(1, 1, 16, 16)
    view = make_views(ramp, ["f"], 1, config=replace(STILL, gamma=0.5), seed=0).flatten()
    exponents = torch.log(view[20:250]) / torch.log(clean(ramp).flatten()[20:250])
    assert exponents.std() < 1e-3
    assert 0.05 < abs(float(exponents.mean()) - 1) <= np.exp(0.5) - 1
    assert view[0] < 1e-4
    assert view[-1] > 0.999


def test_all_wrong_fields_at_once() -> None:
    with pytest.raises(ConfigError, match=r"rotation_degrees is 90, but must be in 0 … 45.\n.*noise is -1"):
        Augmentation(rotation_degrees=90, noise=-1)
