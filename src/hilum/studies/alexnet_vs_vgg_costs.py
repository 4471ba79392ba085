"""What AlexNet and VGG cost: layers, parameters, multiply-accumulates, memory, time, and the size of the first map."""

import itertools
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from hilum.models.anatomy import ComparisonRow, compare, network_table
from hilum.models.initialisation import generator_from, initialise
from hilum.models.memory import WORD
from hilum.models.zoo import architecture, published_network
from hilum.randomness import seed_for
from hilum.studies.alexnet_vs_vgg_published import weights_facts

LABELS = {
    "alexnet_2012": "AlexNet 2012 (two GPUs)",
    "alexnet": "AlexNet 2014 (one tower)",
    "vgg16": "VGG16",
    "vgg19": "VGG19",
}
"""Networks of the zoo, in the words of this study."""

BATCHES = (1, 32)
"""Images in a batch for which memory is computed."""

MB, MIB = 1e6, 2.0**20


def label(name: str) -> str:
    """A network in the words of this study."""
    return LABELS.get(name, name)


def costs(names: Sequence[str]) -> dict[str, Any]:
    """Counts and memory of networks of the zoo, as flat records.

    Args:
        names: in the zoo.
    """
    rows = compare(names, batches=BATCHES, optimiser="adam")
    return {
        "networks": [_counts(row) for row in rows],
        "memory": [_memory(row, batch) for row in rows for batch in range(len(BATCHES))],
        "folklore": [_folklore(row) for row in rows],
    }


def _counts(row: ComparisonRow) -> dict[str, Any]:
    return {
        "network": label(row.name),
        "zoo_name": row.name,
        "year": row.year,
        "input": "×".join(map(str, row.input_shape)),
        "layers": row.depth,
        "parameters": row.parameters,
        "classifier_parameters": row.classifier_parameters,
        "classifier_share": 100 * row.classifier_share,
        "million_macs": row.macs / 1e6,
        "classifier_macs_share": 100 * _classifier_macs(row.name) / row.macs,
        "last_map": "×".join(map(str, row.feature_map)),
        "receptive_field_px": row.receptive_field,
    }


def _classifier_macs(name: str) -> int:
    table = network_table(name)
    return table.macs - table.part(architecture(name).layers)[1]


def _memory(row: ComparisonRow, which: int) -> dict[str, Any]:
    """Decimal megabytes of training in fp32 with Adam."""
    memory = row.training[which]
    return {
        "network": label(row.name),
        "batch": memory.batch,
        "weights_mb": memory.weights / MB,
        "gradients_mb": memory.gradients / MB,
        "adam_mb": memory.optimiser / MB,
        "activations_mb": memory.activations / MB,
        "total_mb": memory.total / MB,
        "activations_share": 100 * memory.activations / memory.total,
    }


def _folklore(row: ComparisonRow) -> dict[str, Any]:
    """Everything that could be meant by "the network needs so many megabytes"."""
    weights, live = WORD * row.parameters, live_bytes(row.name)
    file = weights_facts().get(row.name, {}).get("file_mib")
    one, many = row.training
    return {
        "network": label(row.name),
        "weights_mb": weights / MB,
        "weights_mib": weights / MIB,
        "weights_file_mib": file,
        "all_outputs_one_image_mb": output_bytes(row.name) / MB,
        "answering_one_image_mb": (weights + live) / MB,
        "kept_for_backward_one_image_mb": row.kept_bytes / MB,
        "training_batch_1_mb": one.total / MB,
        "training_batch_32_mb": many.total / MB,
    }


def _steps(name: str) -> list[int]:
    """Bytes of the image and of every output that isn't written over its input, in order, for one image in fp32."""
    table = network_table(name)
    image = WORD * int(np.prod(table.input_shape))
    kept = [row for row in table.rows if row.kind not in ("ReLU", "Dropout") and not row.training_only]
    return [image, *(row.activation_bytes for row in kept)]


def output_bytes(name: str) -> int:
    """Bytes of the image and of all layers' outputs for one image, ReLUs in place: what CS231n's table adds up."""
    return sum(_steps(name))


def live_bytes(name: str) -> int:
    """Most bytes that a layer's input and output take together when one image is answered: all that must be held."""
    steps = _steps(name)
    return max(before + after for before, after in itertools.pairwise(steps))


def latencies(
    names: Sequence[str],
    repeats: Sequence[tuple[int, int]],
    *,
    seed: int,
    device: torch.device,
    advance: Callable[[], None],
) -> list[dict[str, Any]]:
    """Time of one forward pass of each network, with random weights, at its published size.

    Args:
        names: in the zoo.
        repeats: sizes of batches, and how often each is timed.
        seed: of weights and images.
        device: where it is computed.
        advance: called after each batch size.
    """
    found = []
    for name in names:
        network = with_weights(name, seed).to(device)
        for batch, count in repeats:
            row = architecture(name)
            shape = (batch, row.in_channels, row.size, row.size)
            images = torch.randn(shape, generator=generator_from(seed)).to(device, memory_format=torch.channels_last)
            found.append({"network": label(name), "batch": batch, **timed(network, images, count)})
            advance()
        del network
    return found


def with_weights(name: str, seed: int) -> nn.Module:
    """A published network of the zoo with random weights, in evaluation mode and channels-last order."""
    network = published_network(name).to_empty(device="cpu")
    initialise(network, generator_from(seed_for(seed, "timed", name)))
    return network.eval().to(memory_format=torch.channels_last)


def timed(network: nn.Module, images: torch.Tensor, repeats: int) -> dict[str, float]:
    """Milliseconds of a forward pass and of the classifier inside it: median, fastest and slowest.

    Args:
        network: with a ``classifier``, in evaluation mode.
        images: one batch.
        repeats: how often, after one pass that isn't counted.
    """
    marks: list[float] = []

    def mark(*_: Any) -> None:
        if images.is_cuda:
            torch.cuda.synchronize()
        marks.append(time.perf_counter())

    classifier = network.get_submodule("classifier")
    hooks = [classifier.register_forward_pre_hook(mark), classifier.register_forward_hook(mark)]
    with torch.inference_mode():
        for _ in range(1 + repeats):
            mark()
            network(images)
            mark()
    for hook in hooks:
        hook.remove()
    started, before, after, ended = np.array(marks).reshape(-1, 4)[1:].T
    whole, part = 1000 * (ended - started), 1000 * (after - before)
    return {
        "median_ms": float(np.median(whole)),
        "fastest_ms": float(whole.min()),
        "slowest_ms": float(whole.max()),
        "image_ms": float(np.median(whole)) / len(images),
        "classifier_ms": float(np.median(part)),
        "images_per_s": 1000 * len(images) / float(np.median(whole)),
    }


def side(size: int, kernel: int, stride: int, padding: int = 0) -> int:
    """Outputs along a side: ⌊(n + 2p − k)/s⌋ + 1."""
    return (size + 2 * padding - kernel) // stride + 1


def input_sizes() -> list[dict[str, Any]]:
    """AlexNet's first map for images of 224 and 227 px, with and without padding, and what follows from it."""
    rows = []
    for size, padding in ((227, 0), (224, 0), (224, 2)):
        maps = [side(size, 11, 4, padding)]
        for _ in range(3):
            maps.append(side(maps[-1], 3, 2))
        exact = (size + 2 * padding - 11) / 4 + 1
        rows.append(
            {
                "input_px": size,
                "padding_px": padding,
                "arithmetic": f"({size}{f' + 2·{padding}' if padding else ''} − 11)/4 + 1 = {exact:g}",
                "first_map_px": maps[0],
                "unused_px": (size + 2 * padding - 11) % 4,
                "after_pooling_px": " → ".join(map(str, maps[1:])),
                "features_for_fc6": 256 * maps[-1] ** 2,
                "fits_fc6": 256 * maps[-1] ** 2 == 256 * 6 * 6,
                "checked_by_running": _first_map(size, padding) == maps[0],
            }
        )
    return rows


def _first_map(size: int, padding: int) -> int:
    with torch.device("meta"):
        return int(nn.Conv2d(3, 96, 11, 4, padding)(torch.empty(1, 3, size, size)).shape[-1])


NEURONS_IN_PAPER = (253_440, 186_624, 64_896, 64_896, 43_264)
"""Neurons of the five convolutions as the paper's section 3.5 lists them, for "150,528-dimensional" input (224²·3)."""


def neurons() -> list[dict[str, Any]]:
    """Neurons of each convolution as the paper lists them, and as the network has them."""
    table = network_table("alexnet_2012")
    convolutions = [row for row in table.rows if ".conv" in row.name]
    return [
        {
            "layer": row.name.removeprefix("features."),
            "map": "×".join(map(str, row.shape)),
            "neurons": int(np.prod(row.shape)),
            "in_the_paper": listed,
            "agree": int(np.prod(row.shape)) == listed,
        }
        for row, listed in zip(convolutions, NEURONS_IN_PAPER, strict=True)
    ]


def kernel_dicts() -> list[dict[str, Any]]:
    """Stacks of 3×3 and the single kernels that see as far: arithmetic for C maps to C maps on one place."""
    rows = []
    for count, kernel in ((2, 3), (1, 5), (3, 3), (1, 7)):
        weights = count * kernel * kernel
        rows.append(
            {
                "layers": f"{count} × {kernel}×{kernel}" if count > 1 else f"one {kernel}×{kernel}",
                "receptive_field_px": 1 + count * (kernel - 1),
                "weights": f"{weights} C²",
                "weights_for_512_maps": weights * 512 * 512,
                "macs_a_place_for_512_maps": weights * 512 * 512,
                "nonlinearities": count,
            }
        )
    return rows
