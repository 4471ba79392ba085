"""Answers to imbalance: what each name sets, and what each does to a training."""

from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from hilum.errors import ConfigError
from hilum.training.imbalance import STRATEGIES, Imbalance
from hilum.training.prefix_cache import PrefixCache
from hilum.training.transfer import train_member


def test_each_name_sets_its_own_value() -> None:
    """No two alike, and plain cross-entropy sets none."""
    settings = {name: (Imbalance(strategy=name).sampling, Imbalance(strategy=name).loss()) for name in STRATEGIES}
    assert len({repr(value) for value in settings.values()}) == len(STRATEGIES)
    sampling, loss = settings["none"]
    assert (sampling, loss.kind, loss.class_weights, loss.logit_adjustment) == ("natural", "cross-entropy", "none", 0.0)
    assert Imbalance(strategy="focal", gamma=1.5).text() == "focal (γ = 1.5)"
    assert Imbalance(strategy="focal").loss(0.1).label_smoothing == 0.1


def test_all_wrong_fields_at_once() -> None:
    with pytest.raises(ConfigError, match=r"Imbalance.gamma is -1.*\n.*beta is 1.*\n.*tau is -1"):
        Imbalance(gamma=-1, beta=1, tau=-1)


@pytest.mark.parametrize("sampling", ["balanced", "oversampled"])
def test_small_classes_are_drawn_as_often_as_large_ones(
    tiny: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sampling: str
) -> None:
    """Nine films of one class and three of the others; cached and live train the same bits."""
    data = tiny.data()
    few = [row for row in data.fit if row % 3 == 0] + [row for row in data.fit if row % 3][:6]
    data = replace(data, fit=np.array(few))
    seen: list[tuple[int, int]] = []
    from hilum.training.live import LiveInputs

    called = LiveInputs.__call__

    def watched(self, rows, view):
        seen.extend((row, view) for row in rows.tolist() if row in few)
        return called(self, rows, view)

    monkeypatch.setattr(LiveInputs, "__call__", watched)
    stages = (replace(tiny.BLOCKS[0], epochs=1),)
    states = []
    for cache in (None, PrefixCache(tmp_path, store="fp32")):
        model = tiny.classifier()
        folder, config = tmp_path / str(cache is None), tiny.config(sampling=sampling)
        train_member(model, data, stages, config, folder=folder, cache=cache, seed=0)
        states.append(tiny.state(model))
    assert tiny.same(*states)
    counts = Counter(row % 3 for row, _ in seen)
    largest = sum(row % 3 == 0 for row in few)
    assert set(counts.values()) == ({largest} if sampling == "oversampled" else {len(few) // 3, -(-len(few) // 3)})
    views = {view for row, view in seen if row % 3}
    assert views == ({0, 1, 2} if sampling == "oversampled" else {0})
