"""Pretraining's images: drawn on one thread, so that they are the same bits on every number of cores."""

import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from hilum.datasets.procedural import ProceduralConfig
from hilum.runs import pretrain


def test_images_are_drawn_on_one_thread_whatever_the_process_has(monkeypatch: pytest.MonkeyPatch) -> None:
    """NumPy's matrix products differ in their last bit with the number of threads."""
    seen: list[int] = []

    def drawn(config: ProceduralConfig, numbers: np.ndarray) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        seen.extend(pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas")
        return np.zeros((len(numbers), 3, 16, 16), np.uint8), {}

    monkeypatch.setattr(pretrain, "procedural_batch", drawn)
    with threadpool_limits(limits=2, user_api="blas"):
        assert 2 in [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"]
        images, _ = pretrain._make((ProceduralConfig(size=16), np.arange(3)))
    assert images.shape == (3, 3, 16, 16)
    assert seen
    assert set(seen) == {1}
