"""Epochs of the two-stage recipe in fastai, as its guides write it; benchmarks/two_stage.py runs this elsewhere.

Run: VENV/bin/python benchmarks/two_stage_fastai.py FILMS.npz --backbone densenet121 --warm 1 --timed 1

torchvision's network with random weights behind fastai's own head and frozen body, batches of 32 from a data block of
tiles in memory, aug_transforms on the batch, Adam 1e-4, then 1e-5 with the last block trained. Prints one line of JSON.
"""

import argparse
import json
import os
import time
from functools import partial

import fastai
import numpy as np
import torch
from fastai.vision.all import (
    Adam,
    Callback,
    CategoryBlock,
    DataBlock,
    ImageBlock,
    IndexSplitter,
    PILImage,
    accuracy,
    aug_transforms,
    model_meta,
    params,
    vision_learner,
)
from torchvision import models

LAST_BLOCKS = {"densenet121": 10, "mobilenet_v2": 17}
"""Child of ``features`` that the last block begins with: denseblock4, and the last inverted residual."""


class Clock(Callback):
    """Wall seconds of each epoch, its validation included."""

    def before_fit(self):
        self.seconds, self.marked = [], time.perf_counter()

    def after_epoch(self):
        now = time.perf_counter()
        self.seconds.append(now - self.marked)
        self.marked = now


def halves(model, at: int):
    """Frozen and trained parameters of the network that fastai made: the body's children before and behind ``at``."""
    body = model[0]
    while len(list(body.children())) == 1:
        body = next(iter(body.children()))
    first, rest = list(body.children())[:at], list(body.children())[at:]
    return [
        [p for part in first for p in params(part)],
        [p for part in rest for p in params(part)],
        params(model[1]),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("films")
    parser.add_argument("--backbone", choices=sorted(LAST_BLOCKS), default="densenet121")
    parser.add_argument("--warm", type=int, default=1)
    parser.add_argument("--timed", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", torch.get_num_threads())))
    films = np.load(options.films)
    tiles, labels, fit, watch = films["tiles"], films["targets"].argmax(1), films["fit"], films["watch"]
    rows = [*fit.tolist(), *watch.tolist()]
    block = DataBlock(
        blocks=(ImageBlock, CategoryBlock),
        get_x=lambda row: PILImage.create(np.repeat(tiles[row][..., None], 3, axis=2)),
        get_y=lambda row: int(labels[row]),
        splitter=IndexSplitter(range(len(fit), len(rows))),
        batch_tfms=aug_transforms(do_flip=False, max_rotate=10.0, max_zoom=1.1, max_warp=0.0),
    )
    data = block.dataloaders(rows, bs=32, num_workers=0, device=torch.device("cpu"))
    at, network = LAST_BLOCKS[options.backbone], getattr(models, options.backbone)
    # fastai's table of where networks end lacks some, and its ``cut=`` is not passed on.
    model_meta[network] = {**model_meta.get(network, {}), "cut": -1, "split": partial(halves, at=at), "weights": None}
    learner = vision_learner(
        data,
        network,
        pretrained=False,
        metrics=accuracy,
        opt_func=Adam,
        train_bn=False,
    )
    found = []
    for rate, group in ((1e-4, -1), (1e-5, -2)):
        learner.freeze_to(group)
        clock = Clock()
        with learner.no_bar(), learner.no_logging():
            learner.fit(options.warm + options.timed, rate, cbs=[clock])
        found.append(clock.seconds[options.warm :])
    print(json.dumps({"what": f"fastai {fastai.__version__} (fp32)", "epochs": found}))


if __name__ == "__main__":
    main()
