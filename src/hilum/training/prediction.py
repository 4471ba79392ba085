"""Logits for many films: through the whole network, or from cached outputs of its frozen layers."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from hilum.arrays import Indices, Scores
from hilum.models.classifier import Classifier
from hilum.progress import Progress, Silent
from hilum.training.allocator import keep_freed_memory
from hilum.training.batch_size import in_halves
from hilum.training.bf16 import Wanted
from hilum.training.films import Films, Stack
from hilum.training.prefix_cache import PrefixCache
from hilum.training.trained_part import logits_behind


def predict_logits(
    classifier: Classifier, tiles: Stack, *, batch_size: int = 32, progress: Progress | None = None
) -> Scores:
    """Logits of films as they are, through the whole network.

    Args:
        classifier: put into evaluation mode, and left so.
        tiles: uint8 [n, h, w] or [n, c, h, w].
        batch_size: films in one pass.
        progress: shows how many are done.

    Returns:
        float64 [n, k].
    """
    keep_freed_memory()
    films = Films(tiles, ("",) * len(tiles))
    device = next(classifier.parameters()).device

    def logits(rows: Tensor) -> Tensor:
        scores: Tensor = classifier(films.take(rows.to(device)))
        return scores

    return _in_batches(classifier.eval(), logits, np.arange(len(films)), batch_size, progress)


def predict_from_cache(
    classifier: Classifier,
    films: Films,
    rows: Indices,
    *,
    cut: int,
    cache: PrefixCache,
    batch_size: int = 256,
    precision: Wanted = "auto",
    progress: Progress | None = None,
) -> Scores:
    """Logits of films as they are, from the cached outputs of the layers before a cut.

    What a fold or a run has computed is not computed again, so evaluating the members of an ensemble that share their
    frozen layers costs little more than their heads.

    Args:
        classifier: put into evaluation mode, and left so.
        films: all films.
        rows: the films to score.
        cut: number of layers that the cache stands for; see :func:`hilum.training.stages.cut_of`.
        cache: the prefix cache; what it lacks is computed and kept.
        batch_size: films in one pass.
        precision: what the layers before the cut are computed in; the training's, to find what it computed.
        progress: shows how many are done.

    Returns:
        float64 [len(rows), k].
    """
    device = next(classifier.parameters()).device
    with cache.open(classifier, cut, films, {0: rows}, precision=precision, progress=progress) as outputs:

        def logits(picked: Tensor) -> Tensor:
            return logits_behind(classifier, outputs(picked.to(device), 0), cut)

        return _in_batches(classifier.eval(), logits, rows, batch_size, progress)


def _in_batches(
    classifier: Classifier,
    logits: Callable[[Tensor], Tensor],
    rows: Indices,
    batch_size: int,
    progress: Progress | None,
) -> Scores:
    if not len(rows):
        return np.empty((0, len(classifier.config.findings)))
    parts, where = [], f"on {next(classifier.parameters()).device.type} while films were scored"
    with (progress or Silent()).bar("films scored", len(rows)) as bar, torch.inference_mode():
        for batch in torch.split(torch.from_numpy(np.asarray(rows, dtype=np.int64)), batch_size):
            parts += in_halves(lambda some: logits(some).double().cpu().numpy(), batch, where)
            bar.advance(len(batch))
    return np.concatenate(parts)
