"""The report's sections of AlexNet against VGG: tables and figures from flat records."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from hilum.evaluation.intervals import wilson_interval
from hilum.evaluation.paired import Difference
from hilum.intervals import numeral
from hilum.reports.charts import Bar, bars_figure
from hilum.reports.curves import Panel, Reference, Series, curves_figure
from hilum.reports.figures import Figure
from hilum.reports.page import Bullets, Figures, Paragraph, Section
from hilum.reports.tables import Cell, Column, Table, table
from hilum.studies.alexnet_vs_vgg_fits import BASE, NORMED, PLAIN, SMALL_START
from hilum.studies.alexnet_vs_vgg_published import ALEXNET_PAPER, READ, VGG_PAPER
from hilum.studies.alexnet_vs_vgg_words import by_depth, differences


def flat_table(caption: str, rows: Sequence[dict[str, Any]], titles: dict[str, str]) -> Table:
    """Records as a table.

    Args:
        caption: what it shows.
        rows: records.
        titles: column titles by key; columns are these, in this order.
    """
    numeric = [
        all(isinstance(row[key], int | float | None) and not isinstance(row[key], bool) for row in rows)
        for key in titles
    ]
    columns = [Column(title=title, number=number) for title, number in zip(titles.values(), numeric, strict=True)]
    return table(caption, columns, [[Cell(text=_text(row[key])) for key in titles] for row in rows])


def _text(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return str(value) if 1900 < value < 2100 else f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return str(value)


def costs_section(measured: dict[str, Any]) -> Section:
    """Layers, parameters, multiply-accumulates, and how much of them the classifier has."""
    titles = {
        "network": "network", "input": "input", "layers": "layers with weights", "parameters": "parameters",
        "classifier_parameters": "in the classifier", "classifier_share": "share, %", "million_macs": "million MACs",
        "classifier_macs_share": "MACs in the classifier, %", "last_map": "last map",
        "receptive_field_px": "receptive field, px",
    }  # fmt: skip
    caption = (
        "Counted from the networks' layers. A MAC is one multiplication and one addition; response normalisation is "
        "not counted. The classifier is everything behind the last feature map."
    )
    return Section(
        title="What they are made of",
        name="costs",
        blocks=(flat_table(caption, measured["networks"], titles), Figures((_classifier_figure(measured),))),
    )


def _classifier_figure(measured: dict[str, Any]) -> Figure:
    bars = []
    for row in measured["networks"]:
        bars.append(Bar(label=row["network"], series="parameters", value=row["classifier_share"]))
        bars.append(Bar(label=row["network"], series="MACs", value=row["classifier_macs_share"]))
        for time in measured["latency"]:
            if time["network"] == row["network"]:
                share = 100 * time["classifier_ms"] / time["median_ms"]
                bars.append(Bar(label=row["network"], series=f"time, batch {time['batch']}", value=share))
    return bars_figure(
        bars,
        name="classifier",
        title="The classifier's share",
        caption="Share of the three fully connected layers, in per cent. Times are medians measured on this machine.",
        x_label="share of the classifier (%)",
        limits=(0, 112),
    )


def time_section(measured: dict[str, Any]) -> Section:
    """Latency and throughput."""
    titles = {
        "network": "network", "batch": "images in a batch", "median_ms": "median, ms", "fastest_ms": "fastest, ms",
        "slowest_ms": "slowest, ms", "image_ms": "an image, ms", "classifier_ms": "of it the classifier, ms",
        "images_per_s": "images a second",
    }  # fmt: skip
    caption = (
        "One forward pass in fp32, random weights, channels-last, measured on this machine after one pass that is not "
        "counted; each network at its published image size."
    )
    if not measured["latency"]:
        return Section(title="Time", name="time", blocks=(Paragraph("No network was timed at this scale."),))
    bars = [
        Bar(
            label=row["network"],
            series=f"batch of {row['batch']}",
            value=row["image_ms"],
            low=row["fastest_ms"] / row["batch"],
            high=row["slowest_ms"] / row["batch"],
        )
        for row in measured["latency"]
    ]
    figure = bars_figure(
        bars, name="latency", title="Time of an image",
        caption="Median time of a forward pass over the images in it; whiskers: fastest and slowest pass.",
        x_label="time of one image (ms)",
    )  # fmt: skip
    return Section(
        title="Time", name="time", blocks=(flat_table(caption, measured["latency"], titles), Figures((figure,)))
    )


def memory_section(measured: dict[str, Any]) -> Section:
    """Memory of training at a batch of one and of 32, and what "500 MB" may mean."""
    titles = {
        "network": "network", "batch": "batch", "weights_mb": "weights", "gradients_mb": "gradients",
        "adam_mb": "Adam's two means", "activations_mb": "kept for backward", "total_mb": "together",
        "activations_share": "kept for backward, %",
    }  # fmt: skip
    caption = (
        "MB (10⁶ bytes) in fp32, computed: 4 B × parameters × (1 weight + 1 gradient + 2 of Adam) + batch × what "
        "autograd keeps of an image. Workspace and the framework come on top."
    )
    meanings = {
        "network": "network", "weights_mb": "weights, MB", "weights_mib": "weights, MiB",
        "weights_file_mib": "published file, MiB", "all_outputs_one_image_mb": "all outputs of one image",
        "answering_one_image_mb": "answering one image",
        "kept_for_backward_one_image_mb": "kept for backward, one image",
        "training_batch_1_mb": "training, batch 1", "training_batch_32_mb": "training, batch 32",
    }  # fmt: skip
    bars = [
        Bar(label=row["network"], series=f"batch of {row['batch']}", value=row["total_mb"] / 1000)
        for row in measured["memory"]
    ]
    figure = bars_figure(
        bars, name="memory", title="Memory of training with Adam", caption="Computed, in fp32; 1 GB = 10⁹ bytes.",
        x_label="memory (GB)",
    )  # fmt: skip
    return Section(
        title="Memory, and the 500 MB",
        name="memory",
        blocks=(
            flat_table(caption, measured["memory"], titles),
            flat_table(
                "What a number of megabytes can mean. MB are 10⁶ bytes, MiB 2²⁰; all columns but two are MB. Answering "
                "holds the weights and the largest input and output of a layer; ReLUs work in place.",
                measured["folklore"], meanings,
            ),
            Figures((figure,)),
        ),
    )  # fmt: skip


def input_section(measured: dict[str, Any]) -> Section:
    """Why 227 and not 224."""
    titles = {
        "input_px": "image, px", "padding_px": "padding, px", "arithmetic": "first map", "first_map_px": "its side, px",
        "unused_px": "pixels unused", "after_pooling_px": "after the poolings", "features_for_fc6": "features for fc6",
        "fits_fc6": "fits its 9,216", "checked_by_running": "same when run",
    }  # fmt: skip
    neuron_titles = {
        "layer": "layer", "map": "its map", "neurons": "neurons", "in_the_paper": "as the paper lists them",
        "agree": "agree",
    }  # fmt: skip
    return Section(
        title="227 or 224 pixels",
        name="input",
        blocks=(
            Paragraph(
                "The paper takes images of 224 px, kernels of 11 px at distance 4, and draws maps of 55 px. Without "
                "padding these three do not agree: 55 places need 227 px, or 224 px with 2 px of padding at each "
                "border, as torchvision has it."
            ),
            flat_table("⌊(n + 2p − 11)/4⌋ + 1 for the first convolution.", measured["input_sizes"], titles),
            flat_table(
                "Neurons of the convolutions as section 3.5 lists them and as the network has them at 227 px "
                f"({ALEXNET_PAPER}, {READ}). 253,440 is 96 · 55 · 48: no square map gives it.",
                measured["neurons"], neuron_titles,
            ),
        ),
    )  # fmt: skip


def kernels_section(measured: dict[str, Any]) -> Section:
    """Stacks of 3×3 against single kernels: arithmetic and measurement."""
    settings = measured["settings"]
    arithmetic = {
        "layers": "layers", "receptive_field_px": "receptive field, px", "weights": "weights, C maps to C maps",
        "weights_for_512_maps": "weights for 512 maps", "macs_a_place_for_512_maps": "MACs at each place",
        "nonlinearities": "ReLUs",
    }  # fmt: skip
    titles = {
        "each_stage": "each of five stages", "parameters": "parameters", "macs": "MACs of an image",
        "train_image_ms": "training, ms an image", "test_error": "test error, %", "seeds": "seeds",
    }  # fmt: skip
    n = settings["test"]
    bars = []
    for row in measured["stack_table"]:
        if row["test_error"] is not None:
            low, high = wilson_interval(row["test_error"] / 100, n)
            bars.append(Bar(label=row["each_stage"], value=row["test_error"], low=100 * low, high=100 * high))
    figure = bars_figure(
        bars, name="stacks", title="Stacks of 3×3 and single kernels that see as far",
        caption=f"Test error on {n:,} images of {settings['data']}; whiskers: 95 % Wilson. All with BatchNorm.",
        x_label="test error (%)",
    )  # fmt: skip
    return Section(
        title="Stacks of 3×3 against larger kernels",
        name="kernels",
        blocks=(
            flat_table("Arithmetic, biases aside.", measured["kernels"], arithmetic),
            flat_table(
                f"VGG's five stages with {settings['width']:g} of the channels and BatchNorm, "
                f"{settings['train']:,} images, {settings['stack_epochs']} epochs.",
                measured["stack_table"], titles,
            ),
            Figures((figure,)),
        ),
    )  # fmt: skip


def _edges(measured: dict[str, Any]) -> str:
    """Whether a better rate may lie outside those that were tried."""
    names = {"relu": "ReLU", "tanh": "tanh"}
    at_edge = [names[name] for name in measured["race"]["chosen_at_edge"]]
    return f"; {' and '.join(at_edge)} chose the outermost, so that a better one may lie beyond" if at_edge else ""


def race_section(measured: dict[str, Any]) -> Section:
    """ReLU against tanh."""
    settings, chosen = measured["settings"], measured["race"]["chosen"]
    start = 100 * (1 - 1 / settings["classes"])
    words = {"relu": "ReLU", "tanh": "tanh"}
    series = [
        Series(
            label=f"{words[name]}, rate {chosen[name]:g}" + (f", seed {run['repeat']}" if run["repeat"] else ""),
            name=words[name],
            x=list(range(len(run["train_errors"]) + 1)),
            y=[start, *run["train_errors"]],
        )
        for name in words
        for run in measured["race"]["runs"]
        if run["activation"] == name and run["lr"] == chosen[name] and run["train_errors"]
    ]
    targets = [row["training_error"] for row in measured["race"]["summary"]]
    panel = Panel(
        series=series, x_label="epoch", y_label="training error (%)", y_range=(0, 100),
        references=[Reference(value=target, label=f"{target:g} %") for target in targets],
    )  # fmt: skip
    figure = curves_figure(
        [panel], name="race", title="How fast ReLU and tanh fit",
        caption=f"Error on {settings['probe']:,} training images after each epoch, each activation at its best rate; "
        "before the first epoch, guessing.",
        legend="right",
    )  # fmt: skip
    titles = {
        "training_error": "training error, %", "relu_rate": "rate, ReLU", "tanh_rate": "rate, tanh",
        "relu_epochs": "epochs, ReLU", "tanh_epochs": "epochs, tanh", "tanh_over_relu": "tanh over ReLU",
        "relu_reached": "seeds that reached it, ReLU", "tanh_reached": "tanh", "seeds": "of seeds",
    }  # fmt: skip
    caption = (
        f"Four-layer net (three convolutions of 5×5, one linear layer), {settings['race_width']:g} of cuda-convnet's "
        f"channels, {settings['train']:,} images, SGD with momentum at a constant rate, nothing regularised, at most "
        f"{settings['race_epochs']} epochs. Each activation chose its rate by its own speed, as the paper "
        f"did{_edges(measured)}."
    )
    return Section(
        title="ReLU against tanh",
        name="race",
        blocks=(flat_table(caption, measured["race"]["summary"], titles), Figures((figure,))),
    )


def _points(difference: Difference | None) -> str:
    """A difference with its interval, in words that a minus can't confuse."""
    if difference is None:
        return "diverged"
    if math.isnan(difference.low):
        return numeral(difference.mean, "+.1f")
    return (
        f"{numeral(difference.mean, '+.1f')} ({numeral(difference.low, '+.1f')} to {numeral(difference.high, '+.1f')})"
    )


def _base_errors(measured: dict[str, Any]) -> str:
    """How far the unchanged network fits, which says whether there is over-fitting to prevent."""
    rows = [row for row in measured["ablation"] if row["name"] == BASE and row["test_error"] is not None]
    if not rows:
        return "The unchanged network diverged."
    fitted = float(np.mean([row["train_errors"][-1] for row in rows]))
    tested = float(np.mean([row["test_error"] for row in rows]))
    return f"The unchanged network ends with {fitted:.0f} % training error and {tested:.0f} % test error."


def ablation_section(measured: dict[str, Any]) -> Section:
    """AlexNet with one thing changed at a time."""
    settings = measured["settings"]
    bars = [
        Bar(
            label=name,
            value=difference.mean if difference else float("nan"),
            low=difference.low if difference else float("nan"),
            high=difference.high if difference else float("nan"),
            note=_points(difference),
        )
        for name, difference in differences(measured["ablation"])
    ]
    figure = bars_figure(
        bars, name="ablation", title="What one change does to the small AlexNet's test error",
        caption="Points of test error above that of the unchanged network, paired by seed; whiskers: 95 % Student. "
        "Below 0 is better.",
        x_label="change of the test error (points)",
    )  # fmt: skip
    titles = {
        "variant": "variant", "test_error_minus_base": "change of the test error, points", "low": "lower bound",
        "high": "upper bound", "seeds": "seeds",
    }  # fmt: skip
    caption = (
        f"Against: {BASE}. {settings['train']:,} images, {settings['ablation_epochs']} epochs, {settings['width']:g} "
        f"of the channels. {_base_errors(measured)}"
    )
    return Section(
        title="What AlexNet's parts do",
        name="ablation",
        blocks=(flat_table(caption, measured["ablation_table"], titles), Figures((figure,))),
    )


def depth_section(measured: dict[str, Any]) -> Section:
    """VGG by depth, with and without BatchNorm."""
    settings = measured["settings"]
    kinds = [kind for kind in (PLAIN, NORMED, SMALL_START) if by_depth(measured["depth"], kind)]
    series, losses = [], []
    for kind in kinds:
        nets = {
            d: [r["test_error"] for r in rows if r["test_error"] is not None]
            for d, rows in by_depth(measured["depth"], kind).items()
        }
        nets = {depth: values for depth, values in nets.items() if values}
        bounds = [wilson_interval(float(np.mean(values)) / 100, settings["test"]) for values in nets.values()]
        series.append(
            Series(
                label=kind, x=list(nets), y=[float(np.mean(values)) for values in nets.values()],
                low=[100 * low for low, _ in bounds], high=[100 * high for _, high in bounds],
            )
        )  # fmt: skip
        deepest = by_depth(measured["depth"], kind)
        rows = deepest[max(deepest)][0]["losses"]
        if rows:
            losses.append(Series(label=kind, x=list(range(1, len(rows) + 1)), y=rows))
    guessing = math.log(settings["classes"])
    deepest_name = max(row["depth"] for row in measured["depth"])
    figure = curves_figure(
        [
            Panel(series=series, x_label="layers with weights", y_label="test error (%)", title="after training",
                  x_ticks=[(depth, str(depth)) for depth in sorted({row["depth"] for row in measured["depth"]})]),
            Panel(series=losses, x_label="epoch", y_label="training loss", title=f"VGG{deepest_name}",
                  references=[Reference(value=guessing, label="guessing")]),
        ],
        name="depth", title="VGG by depth", legend="above",
        caption=f"Left: test error, whiskers 95 % Wilson on {settings['test']:,} images. Right: mean loss of each "
        "epoch of the deepest net, first seed.",
    )  # fmt: skip
    titles = {
        "network": "network", "kind": "kind", "parameters": "parameters", "macs": "MACs",
        "last_training_loss": "last training loss", "test_error": "test error, %", "trained": "trained",
        "seeds": "seeds",
    }  # fmt: skip
    caption = (
        f"{settings['width']:g} of the channels, {settings['train']:,} images, {settings['depth_epochs']} epochs. "
        f"Trained: the last epoch's loss is below 95 % of ln {settings['classes']} = {guessing:.3f}, that of guessing. "
        "Weights begin scaled to each layer (He et al. 2015, doi:10.1109/ICCV.2015.123), or all with one spread, "
        "0.01/√width."
    )
    return Section(
        title="VGG by depth, with and without BatchNorm",
        name="depth",
        blocks=(flat_table(caption, measured["depth_table"], titles), Figures((figure,))),
    )


def transfer_section(measured: dict[str, Any]) -> Section:
    """What a linear probe reads from frozen features, and what was not measured."""
    titles = {
        "network": "features of", "weights": "weights", "target": "read on", "features": "features",
        "accuracy": "accuracy, %", "low": "lower bound", "high": "upper bound", "test_images": "test images",
    }  # fmt: skip
    bars = [
        Bar(label=f"{row['network']} ({row['weights']})", value=row["accuracy"], low=row["low"], high=row["high"])
        for row in measured["transfer"]
    ]
    figure = bars_figure(
        bars, name="transfer", title="What a linear probe reads from frozen features",
        caption="Accuracy on test images of another set; whiskers: 95 % Wilson.", x_label="accuracy (%)",
        limits=(0, 118),
    )  # fmt: skip
    told = (
        "Published, for comparison: Caltech-256, linear SVM on frozen features: Zeiler and Fergus's AlexNet-like net "
        f"74.2 ± 0.3 %, VGG16 85.0 ± 0.2 %, VGG19 85.1 ± 0.3 % mean class recall ({VGG_PAPER}, table 11, {READ})."
    )
    missing = tuple(
        f"Published weights of {row['network']} were not probed. {row['reason']}" for row in measured["not_probed"]
    )
    notes = (
        Bullets(missing),
        Paragraph(
            "In their place the networks that were trained above on small images were probed: the last hidden layer's "
            "activations, read on another set. That says how features of the two designs transfer at this size, not "
            "how those of ImageNet do."
        ),
    )
    return Section(
        title="How well their features transfer",
        name="transfer",
        blocks=(
            *(notes if missing else ()),
            flat_table(
                "95 % Wilson intervals. The probe is ridge regression; its penalty is chosen on training images.",
                measured["transfer"], titles,
            ),
            Figures((figure,)),
            Paragraph(told),
        ),
    )  # fmt: skip


def published_section(measured: dict[str, Any]) -> Section:
    """Published errors with their protocol."""
    titles = {
        "network": "network", "nets": "nets", "top_1_error": "top-1 error, %", "top_5_error": "top-5 error, %",
        "split": "split", "evaluation": "crops", "source": "source", "checked": "checked",
    }  # fmt: skip
    return Section(
        title="Published errors, each with its protocol",
        name="published",
        blocks=(
            Paragraph(
                "None of these was measured here. 15.3 % is seven networks on the test images, two of them pretrained "
                "on more data; one AlexNet has 18.2 % on the validation images. 7.3 % on the test images is VGG's "
                "submission of seven; one VGG16 has 7.5 % on the validation images, and 7.1 % is one VGG19 there with "
                "many crops added."
            ),
            flat_table("ImageNet (ILSVRC 2012 classification), error in per cent.", measured["published"], titles),
        ),
    )
