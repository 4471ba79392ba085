"""Pretrain the shipped encoder on procedural images: one command, no photograph, every factor's label known.

The encoder learns all factors of ``datasets.procedural`` at once, each by a linear layer on pooled features, with the
mean of the cross-entropies as loss. Only the encoder is kept.
"""

import multiprocessing
import multiprocessing.pool
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from hilum.arrays import Array
from hilum.config import fingerprint, to_mapping
from hilum.datasets.procedural import FACTORS, ProceduralConfig, one_thread, procedural_batch
from hilum.errors import RunError
from hilum.files import replacing, write_json
from hilum.models.encoders import build_encoder
from hilum.progress import Progress, Silent
from hilum.provenance import environment, now_utc, sha256_file
from hilum.randomness import seed_for, stream

CHUNK = 256
"""Images made by one job of the pool."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PretrainConfig:
    """What is learnt from what, and how long."""

    backbone: str = "hilum_small"
    """Name in the zoo."""
    images: int = 32_000
    """Images to learn from; 2,000 more are held out."""
    size: int = 112
    """Pixels a side."""
    epochs: int = 6
    """Passes over the images."""
    batch_size: int = 64
    """Images a step."""
    lr: float = 3e-3
    """Peak learning rate of the one-cycle schedule (AdamW)."""
    weight_decay: float = 0.05
    """Decoupled weight decay."""
    seed: int = 0
    """Seed of images, weights and order."""


class FactorHeads(nn.Module):
    """One linear layer a factor, on the pooled features."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(channels)
        self.heads = nn.ModuleDict({name: nn.Linear(channels, classes) for name, classes in FACTORS.items()})

    def forward(self, maps: Tensor) -> dict[str, Tensor]:
        """Logits of every factor [n, classes] from feature maps [n, c, h, w]."""
        pooled = self.norm(maps.mean(dim=(2, 3)))
        return {name: head(pooled) for name, head in self.heads.items()}


def pretrain(config: PretrainConfig, out: Path, *, progress: Progress | None = None) -> dict[str, Any]:
    """Pretrain an encoder and write ``out`` (safetensors) and, beside it, ``out`` with suffix ``.json``.

    Args:
        config: what and how long.
        out: path of the weights to write.
        progress: where progress goes.

    Returns:
        what was measured: held-out accuracy of each factor beside the share of its commonest class, and times.
    """
    progress = progress or Silent()
    started = time.monotonic()
    images, targets = make_images(config, config.images, "fit", progress)
    held_images, held_targets = make_images(config, 2_000, "held-out", progress)
    made = time.monotonic()
    encoder = build_encoder(config.backbone, config.seed).to(memory_format=torch.channels_last)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_for(config.seed, "heads"))
        heads = FactorHeads(encoder.channels)
    history = _learn(config, encoder, heads, images, targets, progress)
    measured = _accuracy(encoder, heads, held_images, held_targets)
    state = {name: value.contiguous() for name, value in encoder.state_dict().items()}
    with replacing(out) as temporary:
        save_file(state, temporary, metadata={"config": fingerprint(config)})
    summary = {
        "config": to_mapping(config),
        "created": now_utc(),
        "sha256": sha256_file(out),
        "bytes": out.stat().st_size,
        "held_out": measured,
        "loss_by_epoch": history,
        "seconds_making_images": round(made - started, 1),
        "seconds_learning": round(time.monotonic() - made, 1),
        "environment": environment(),
    }
    write_json(out.with_suffix(".json"), summary)
    return summary


def make_images(config: PretrainConfig, count: int, name: str, progress: Progress) -> tuple[Tensor, dict[str, Tensor]]:
    """Procedural images as one uint8 tensor [count, 3, size, size], and their factors [count]."""
    made_by = ProceduralConfig(size=config.size, seed=seed_for(config.seed, "procedural", name))
    starts = range(0, count, CHUNK)
    jobs = [(made_by, np.arange(start, min(start + CHUNK, count))) for start in starts]
    images = np.empty((count, 3, config.size, config.size), dtype=np.uint8)
    factors: dict[str, Array] = {factor: np.empty(count, dtype=np.int64) for factor in FACTORS}
    pool = multiprocessing.get_context("spawn").Pool(len(os.sched_getaffinity(0)))
    with progress.bar(f"Making images ({name})", count) as bar, pool:
        for start, (batch, labels) in zip(starts, pool.imap(_make, jobs), strict=True):
            images[start : start + len(batch)] = batch
            for factor, values in labels.items():
                factors[factor][start : start + len(batch)] = values
            bar.advance(len(batch))
    return torch.from_numpy(images), {name: torch.from_numpy(values) for name, values in factors.items()}


def _make(job: tuple[ProceduralConfig, Array]) -> tuple[Array, dict[str, Array]]:
    with one_thread():
        return procedural_batch(*job)


def _learn(
    config: PretrainConfig,
    encoder: nn.Module,
    heads: nn.Module,
    images: Tensor,
    targets: dict[str, Tensor],
    progress: Progress,
) -> list[float]:
    parameters = [*encoder.parameters(), *heads.parameters()]
    optimiser = torch.optim.AdamW(parameters, lr=config.lr, weight_decay=config.weight_decay)
    steps = config.epochs * (len(images) // config.batch_size)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, config.lr, total_steps=steps, pct_start=0.15)
    encoder.train()
    heads.train()
    history = []
    for epoch in range(config.epochs):
        losses = []
        with progress.bar(f"Pretraining, epoch {epoch + 1}/{config.epochs}", len(images)) as bar:
            for rows in _batches(config, epoch, len(images)):
                batch = augment(images[rows], seed_for(config.seed, "augment", epoch, int(rows[0])))
                logits = heads(encoder(batch))
                loss = torch.stack(
                    [nn.functional.cross_entropy(logits[name], targets[name][rows]) for name in FACTORS]
                ).mean()
                if not torch.isfinite(loss):
                    raise RunError(f"Pretraining diverged in epoch {epoch + 1}. Lower lr ({config.lr}).")
                optimiser.zero_grad(set_to_none=True)
                torch.autograd.backward(loss)
                nn.utils.clip_grad_norm_(parameters, 1.0)
                optimiser.step()
                schedule.step()
                losses.append(float(loss.detach()))
                bar.advance(len(rows), f"loss {np.mean(losses[-50:]):.3f}")
        history.append(round(float(np.mean(losses)), 4))
    return history


def _batches(config: PretrainConfig, epoch: int, count: int) -> Iterator[Tensor]:
    order = torch.from_numpy(stream(config.seed, "order", epoch).permutation(count))
    for start in range(0, count - config.batch_size + 1, config.batch_size):
        yield order[start : start + config.batch_size]


def augment(images: Tensor, seed: int) -> Tensor:
    """Normalised float images [n, 3, h, w] (mean 0.5, standard deviation 0.25) with random gain, offset and polarity.

    Polarity is turned for a tenth of the images: films come from devices with both.
    """
    generator = torch.Generator().manual_seed(seed)
    n = len(images)
    values = images.to(torch.float32).div_(255).sub_(0.5)
    gain = 1 + 0.3 * (2 * torch.rand(n, 1, 1, 1, generator=generator) - 1)
    sign = torch.where(torch.rand(n, 1, 1, 1, generator=generator) < 0.1, -1.0, 1.0)
    offset = 0.15 * (2 * torch.rand(n, 1, 1, 1, generator=generator) - 1)
    return values.mul_(gain * sign * 4).add_(offset * 4).to(memory_format=torch.channels_last)


@torch.no_grad()
def _accuracy(
    encoder: nn.Module, heads: nn.Module, images: Tensor, targets: dict[str, Tensor]
) -> dict[str, dict[str, float]]:
    encoder.eval()
    heads.eval()
    right: dict[str, list[Tensor]] = {name: [] for name in FACTORS}
    for start in range(0, len(images), 256):
        batch = images[start : start + 256].to(torch.float32).div(255).sub(0.5).mul(4)
        for name, logits in heads(encoder(batch.to(memory_format=torch.channels_last))).items():
            right[name].append(logits.argmax(dim=1) == targets[name][start : start + 256])
    return {
        name: {
            "accuracy": round(float(torch.cat(right[name]).float().mean()), 4),
            "commonest_class": round(float(torch.bincount(targets[name]).max() / len(images)), 4),
        }
        for name in FACTORS
    }
