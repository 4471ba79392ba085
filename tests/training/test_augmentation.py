"""Views: the same wherever they are made, and as far from the film as said."""

from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from PIL import Image

from hilum.errors import ConfigError
from hilum.training.augmentation import Augmentation, clean, make_views

STILL = Augmentation(**{field.name: 0.0 for field in fields(Augmentation) if field.name != "horizontal_flip"})


def films(count: int = 6, size: tuple[int, int] = (21, 17), channels: int = 1) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (count, channels, *size), generator=generator, dtype=torch.uint8)


IDS = [f"film-{i}" for i in range(6)]


@pytest.mark.parametrize("channels", [1, 3])
def test_view_does_not_depend_on_the_batch(channels: int) -> None:
    """Bit for bit: alone, in another order, among others."""
    stack = films(channels=channels)
    whole = make_views(stack, IDS, 3, config=Augmentation(horizontal_flip=True), seed=0)
    for rows in ([2], [5, 2, 0], [1, 2, 3, 4]):
        part = make_views(stack[rows], [IDS[i] for i in rows], 3, config=Augmentation(horizontal_flip=True), seed=0)
        assert torch.equal(part, whole[rows])


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
