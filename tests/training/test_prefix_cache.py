"""Cached and live agree; what is computed once is not computed again; what does not fit is said."""

from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from hilum.errors import TrainingError, UsageError
from hilum.training.augmentation import Augmentation
from hilum.training.frozen import frozen_outputs, prefix_fingerprint
from hilum.training.live import LiveInputs
from hilum.training.prefix_cache import PrefixCache, PrefixOutputs
from hilum.training.row_store import MARK_BYTES
from hilum.training.trained_part import TrainedPart

AUGMENTATION = Augmentation()
ROWS = torch.tensor([7, 3, 11, 39, 0])
CUTS = {"layer": 3, "in place next": 2, "last block": 6, "head": 9}


def opened(tiny: ModuleType, cache: PrefixCache, cut: int, seed: int = 0, **changes: object) -> PrefixOutputs:
    wanted = {0: np.arange(40), 1: np.arange(40), 2: np.arange(20)}
    options = {"augmentation": AUGMENTATION, "precision": "fp32", **changes}
    return cache.open(tiny.classifier(seed), cut, tiny.films(), wanted, **options)


def live(tiny: ModuleType, cut: int) -> LiveInputs:
    return LiveInputs(
        classifier=tiny.classifier().eval(), cut=cut, films=tiny.films(), augmentation=AUGMENTATION, seed=0
    )


def gradients(tiny: ModuleType, inputs: torch.Tensor, cut: int) -> list[torch.Tensor]:
    part = TrainedPart(tiny.classifier(), cut, batch_norm_trains=False)
    part(inputs).square().sum().backward()
    return [value.grad for value in part.trained_parameters().values()]


@pytest.mark.parametrize("cut", CUTS.values(), ids=CUTS)
@pytest.mark.parametrize("view", [0, 1])
def test_single_precision_store_equals_live_bit_for_bit(tiny: ModuleType, tmp_path: Path, cut: int, view: int) -> None:
    """Features and gradients."""
    with opened(tiny, PrefixCache(tmp_path, store="fp32"), cut) as outputs:
        cached = outputs(ROWS, view)
    direct = live(tiny, cut)(ROWS, view)
    assert torch.equal(cached, direct)
    pairs = zip(gradients(tiny, cached, cut), gradients(tiny, direct, cut), strict=True)
    assert all(torch.equal(one, other) for one, other in pairs)


@pytest.mark.parametrize("cut", CUTS.values(), ids=CUTS)
def test_half_precision_store_is_within_its_precision(tiny: ModuleType, tmp_path: Path, cut: int) -> None:
    """Features to 2⁻¹¹ relative; gradients to a few times that of the largest."""
    with opened(tiny, PrefixCache(tmp_path), cut) as outputs:
        cached = outputs(ROWS, 1)
    direct = live(tiny, cut)(ROWS, 1)
    np.testing.assert_allclose(cached.numpy(), direct.numpy(), rtol=2**-11, atol=2**-24)
    for one, other in zip(gradients(tiny, cached, cut), gradients(tiny, direct, cut), strict=True):
        assert (one - other).abs().max() <= 2**-8 * other.abs().max()


def test_memory_mapped_equals_resident(tiny: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sets too large for memory are read by row, with the same result."""
    cache = PrefixCache(tmp_path)
    with opened(tiny, cache, 6) as outputs:
        resident = outputs(ROWS, 1)
    monkeypatch.setattr("hilum.training.prefix_cache._RESIDENT_BYTES", 0)
    with opened(tiny, cache, 6) as outputs:
        mapped = outputs(ROWS, 1)
    assert torch.equal(resident, mapped)
    assert mapped.is_contiguous(memory_format=torch.channels_last)


def test_outputs_do_not_depend_on_their_block(tiny: ModuleType) -> None:
    """A film alone, in a short block, and among others: the same bits."""
    model, views = tiny.classifier().eval(), live(tiny, 0)(torch.arange(40), 1)[:, :1]
    (whole,) = frozen_outputs(model, views, [6])
    for chosen in ([5], [39, 2], list(range(10, 33))):
        assert torch.equal(frozen_outputs(model, views[chosen], [6])[0], whole[chosen])


def test_one_pass_for_several_cuts_equals_one_each(tiny: ModuleType) -> None:
    model, views = tiny.classifier().eval(), live(tiny, 0)(torch.arange(9), 1)[:, :1]
    together = frozen_outputs(model, views, [2, 6, 9])
    assert all(
        torch.equal(outputs, frozen_outputs(model, views, [cut])[0])
        for cut, outputs in zip([2, 6, 9], together, strict=True)
    )


class Counter:
    """Counts the films that go through frozen layers."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.films = 0

        def counted(model: object, views: torch.Tensor, *rest: object) -> object:
            self.films += len(views)
            return frozen_outputs(model, views, *rest)

        monkeypatch.setattr("hilum.training.prefix_cache.frozen_outputs", counted)


def test_nothing_is_computed_twice(tiny: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another fold computes only what the first lacked; cuts named in advance come with the first pass."""
    counter, cache = Counter(monkeypatch), PrefixCache(tmp_path)
    opened(tiny, cache, 9, also=[6]).close()
    assert counter.films == 100
    opened(tiny, cache, 6).close()
    opened(tiny, PrefixCache(tmp_path), 9).close()
    assert counter.films == 100
    model = tiny.classifier()
    cache.open(model, 6, tiny.films(), {2: np.arange(10, 30)}, augmentation=AUGMENTATION, precision="fp32").close()
    assert counter.films == 110


@pytest.mark.parametrize(
    "what", ["weights", "augmentation", "view seed", "store type", "precision", "film pixels", "film name"]
)
def test_whatever_decides_an_output_is_in_its_key(
    what: str, tiny: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A change of it computes anew."""
    rows = {1: np.arange(40)}
    cache, model, films = PrefixCache(tmp_path), tiny.classifier(), tiny.films()
    changed = {"augmentation": AUGMENTATION, "seed": 0, "precision": "fp32"}
    cache.open(model, 6, films, rows, **changed).close()
    counter = Counter(monkeypatch)
    if what == "weights":
        with torch.no_grad():
            model.encoder.bn2.running_var[0] += 1e-3
    elif what == "augmentation":
        changed["augmentation"] = Augmentation(noise=0.03)
    elif what == "view seed":
        changed["seed"] = 1
    elif what == "store type":
        cache = PrefixCache(tmp_path, store="fp32")
    elif what == "precision":
        changed["precision"] = "bf16"
    elif what == "film pixels":
        films.tiles[3, 0, 0] ^= 1
        films = type(films)(films.tiles, films.film_ids)
    else:
        films = type(films)(films.tiles, ("another", *films.film_ids[1:]))
    cache.open(model, 6, films, rows, **changed).close()
    assert counter.films == (1 if what.startswith("film") else 40)


def test_what_lies_behind_the_cut_is_not_in_the_key(tiny: ModuleType) -> None:
    """Folds with heads of their own share the frozen layers."""
    one, other = tiny.classifier(), tiny.classifier()
    with torch.no_grad():
        other.head.fc1.weight += 1
        other.encoder.conv3.weight += 1
    assert prefix_fingerprint(one, 6) == prefix_fingerprint(other, 6)
    assert prefix_fingerprint(one, 9) != prefix_fingerprint(other, 9)
    other.normalise.mean += 0.1
    assert prefix_fingerprint(one, 6) != prefix_fingerprint(other, 6)


def test_twin_films_share_a_row(tiny: ModuleType, tmp_path: Path) -> None:
    """The same name and pixels twice, and a row asked for twice."""
    stack = tiny.tiles(3)[0][[0, 1, 0]]
    films = type(tiny.films())(stack, ("a", "b", "a"))
    with PrefixCache(tmp_path).open(tiny.classifier(), 6, films, {0: np.array([0, 1, 2, 1])}) as outputs:
        first, second, third = outputs(torch.tensor([0, 1, 2]), 0)
    assert torch.equal(first, third)
    assert not torch.equal(first, second)


def test_overflow_of_half_precision_is_said(tiny: ModuleType, tmp_path: Path) -> None:
    model = tiny.classifier()
    with torch.no_grad():
        model.encoder.bn2.weight *= 1e6
    with pytest.raises(TrainingError, match=r"frozen layers is .*e\+0., beyond what the float16 store holds"):
        PrefixCache(tmp_path).open(model, 6, tiny.films(), {0: np.arange(4)})
    PrefixCache(tmp_path, store="fp32").open(model, 6, tiny.films(), {0: np.arange(4)}).close()
    with torch.no_grad():
        model.encoder.bn2.weight[0] = torch.nan
    with pytest.raises(TrainingError, match="frozen layers is nan"):
        PrefixCache(tmp_path, store="fp32").open(model, 6, tiny.films(), {0: np.arange(4)})


def test_least_recently_used_store_makes_room(tiny: ModuleType, tmp_path: Path) -> None:
    """Room for one network's outputs: the other's go, but not while they are read."""
    rows = {0: np.arange(40)}
    size = 40 * (6 * 4 * 4 * 2 + MARK_BYTES)
    cache = PrefixCache(tmp_path, limit_gb=(size * 1.5 + 2000) / 1e9)
    first = cache.open(tiny.classifier(0), 6, tiny.films(), rows)
    with pytest.raises(TrainingError, match=r"prefix cache needs 8.5e-06 GB, but may hold 1\.\d+e-05 GB"):
        cache.open(tiny.classifier(1), 6, tiny.films(), rows)
    first.close()
    (tmp_path / ".half.0123.old").mkdir()
    cache.open(tiny.classifier(1), 6, tiny.films(), rows).close()
    assert len(list(tmp_path.iterdir())) == 1


def test_full_store_is_emptied_of_films_that_are_not_wanted(tiny: ModuleType, tmp_path: Path) -> None:
    """One network and another set of films: the store starts anew rather than failing."""
    size = 40 * (6 * 4 * 4 * 2 + MARK_BYTES)
    cache = PrefixCache(tmp_path, limit_gb=(size * 1.5 + 1000) / 1e9)
    cache.open(tiny.classifier(), 6, tiny.films(), {0: np.arange(40)}).close()
    others = type(tiny.films())(255 - tiny.tiles()[0], tiny.films().film_ids)
    cache.open(tiny.classifier(), 6, others, {0: np.arange(40)}).close()
    assert sum(file.stat().st_size for file in tmp_path.glob("*/rows.bin")) == 40 * 6 * 4 * 4 * 2


def test_a_disk_without_room_is_said_before_anything_is_computed(
    tiny: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk with so little left that the outputs can't fit."""
    usage = type("Usage", (), {"free": 1000})
    monkeypatch.setattr("hilum.training.prefix_cache.shutil.disk_usage", lambda folder: usage)
    counter = Counter(monkeypatch)
    with pytest.raises(TrainingError, match=r"needs 8.5e-06 GB, but its disk has 1e-06 GB free at .*Raise its limit"):
        PrefixCache(tmp_path).open(tiny.classifier(), 6, tiny.films(), {0: np.arange(40)})
    assert counter.films == 0


def test_a_damaged_row_is_computed_anew(tiny: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One byte of one film's outputs changed on disk: that film alone goes through the frozen layers again."""
    with opened(tiny, PrefixCache(tmp_path, store="fp32"), 6) as outputs:
        before = outputs(ROWS, 1)
    for path in tmp_path.glob("*/rows.bin"):
        content = bytearray(path.read_bytes())
        content[100] ^= 1
        path.write_bytes(content)
    counter = Counter(monkeypatch)
    with opened(tiny, PrefixCache(tmp_path, store="fp32"), 6) as outputs:
        assert torch.equal(outputs(ROWS, 1), before)
    assert counter.films == 2  # one of the clean views, one of the others


def test_what_was_announced_is_read_ahead_and_is_the_same(
    tiny: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Batches from the thread, and others in between."""
    cache = PrefixCache(tmp_path)
    batches = [torch.tensor(rows) for rows in ([1, 2], [3, 0], [39], [4, 5, 6], [7])]
    with opened(tiny, cache, 6) as outputs:
        assert outputs.resident
        expected = [outputs(rows, 1) for rows in batches]
    monkeypatch.setattr("hilum.training.prefix_cache._RESIDENT_BYTES", 0)
    with opened(tiny, cache, 6) as outputs:
        assert not outputs.resident
        outputs.expect(batches, 1)
        found = [outputs(rows, 1) for rows in batches[:2]] + [outputs(ROWS, 0)]
        found += [outputs(rows, 1) for rows in batches[2:]]
        outputs.expect([batches[0], torch.tensor([30])], 2)
        with pytest.raises(TrainingError, match="View 2 of a film is not in the prefix cache"):
            [outputs(rows, 2) for rows in (batches[0], torch.tensor([30]))]
    assert all(torch.equal(one, other) for one, other in zip(found[:2] + found[3:], expected, strict=True))


def test_view_that_was_not_asked_for_is_refused(tiny: ModuleType, tmp_path: Path) -> None:
    with opened(tiny, PrefixCache(tmp_path), 6) as outputs:
        for rows, view in ((ROWS, 2), (ROWS, 5)):
            with pytest.raises(TrainingError, match=f"View {view} of a film is not in the prefix cache"):
                outputs(rows, view)


def test_nothing_to_cache_is_refused(tiny: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="needs one frozen layer at least, but the cut is 0"):
        PrefixCache(tmp_path).open(tiny.classifier(), 0, tiny.films(), {0: np.arange(4)})
    with pytest.raises(UsageError, match=r"Views \[0, 1\] need an augmentation"):
        PrefixCache(tmp_path).open(tiny.classifier(), 3, tiny.films(), {0: np.arange(4), 1: np.arange(4)})
