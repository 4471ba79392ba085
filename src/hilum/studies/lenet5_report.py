"""What the report of the LeNet-5 study shows: tables and figures of networks that are trained."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Integer
from torch import nn

from hilum.arrays import Array
from hilum.datasets.image_sets import ImageSet
from hilum.evaluation.intervals import wilson_interval
from hilum.models.anatomy import network_table
from hilum.models.networks.lenet_original import C3_TABLE, CODE_HEIGHT, CODE_WIDTH, LeNet5Original, digit_codes
from hilum.models.zoo import published_network
from hilum.reports.canvas import Figure
from hilum.reports.charts import Bar, bars_figure
from hilum.reports.curves import Panel, Reference, Series, curves_figure
from hilum.reports.matrices import heat_figure, marks_figure
from hilum.reports.page import Details, Figures, Paragraph, Section
from hilum.reports.pictures import Tile, pictures_figure
from hilum.reports.tables import Column, Table, table

TYPES = {
    "Conv2d": "convolution",
    "FanInConv2d": "convolution",
    "TableConv2d": "convolution by Table I",
    "MaxPool2d": "max pooling",
    "Subsampling": "trainable subsampling",
    "Linear": "fully connected",
    "FanInLinear": "fully connected",
    "RadialBasis": "RBF, fixed codes",
}
"""Kinds of layers in words; all others are activations, which the layer table leaves out."""

LEGACY = (
    ("local windows with shared weights", "every convolutional network", "Krizhevsky et al. 2012, doi:10.1145/3065386"),
    ("maps grow in number as they shrink in size", "the stages of VGG and ResNet", "arXiv:1409.1556; arXiv:1512.03385"),
    ("trainable subsampling, 2 × 2", "dropped for max pooling, then for stride", "doi:10.1007/978-3-642-15825-4_10; "
     "arXiv:1412.6806"),
    ("C3's connection table", "grouped and depthwise convolutions, regular and for speed", "AlexNet's two groups, "
     "doi:10.1145/3065386; Xception, arXiv:1610.02357"),
    ("scaled tanh", "dropped for ReLU, which doesn't saturate", "Nair, Hinton 2010 (ICML); Glorot et al. 2011 "
     "(AISTATS)"),
    ("weights within ±2.4/fan-in, centred inputs", "initialisation by fan; normalisation inside the network",
     "Glorot, Bengio 2010 (AISTATS); He et al. 2015, arXiv:1502.01852; batch normalisation, arXiv:1502.03167"),
    ("C5 is a convolution: larger inputs give maps", "fully convolutional networks", "Long et al. 2015, "
     "arXiv:1411.4038"),
    ("fully connected layers at the end", "global average pooling", "Lin et al. 2014, arXiv:1312.4400"),
    ("distance to fixed codes as output", "softmax; distances came back with prototypes", "Snell et al. 2017, "
     "arXiv:1703.05175"),
    ("a rubbish class in the loss, rejects", "open-set recognition", "Bendale, Boult 2016, arXiv:1511.06233"),
    ("training digits distorted at random", "augmentation as a habit", "Simard et al. 2003, "
     "doi:10.1109/ICDAR.2003.1227801"),
    ("step sizes from a diagonal of curvature", "step sizes of their own for all weights: Adam", "Kingma, Ba 2015, "
     "arXiv:1412.6980"),
)  # fmt: skip
"""What later networks took from LeNet-5, or dropped, and where to read it: literature, not measurements."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """One form of LeNet-5 after training; the network, its answers and its rows are those of the first seed."""

    name: str
    """``modern`` or ``original``."""
    label: str
    """In words."""
    row: str
    """Its name in the zoo."""
    network: nn.Module
    """The trained network."""
    begun: Float[np.ndarray, "6 5 5"]
    """The filters of C1 before training."""
    rows: tuple[dict[str, Any], ...]
    """One an epoch."""
    mean: float
    """Mean that intensities are normalised with."""
    std: float
    """Their standard deviation."""
    logits: Float[np.ndarray, "n 10"]
    """For the test images."""
    accuracies: tuple[float, ...]
    """On the test images, one a seed."""
    seconds: tuple[float, ...]
    """Of training, one a seed, scoring aside."""

    @property
    def answers(self) -> Integer[np.ndarray, " n"]:
        """Digit read in each test image."""
        read: Array = self.logits.argmax(1)
        return read

    @property
    def epochs(self) -> int:
        """Passes over the training images."""
        return len(self.rows)


def layer_dicts(row: str) -> list[dict[str, Any]]:
    """The layer table of a network of the zoo, counted from the network; activations are left out."""
    modules = dict(published_network(row).named_modules())
    found = []
    for layer in network_table(row).rows:
        if layer.kind not in TYPES:
            continue
        module = modules[layer.name]
        window, stride = _window(module)
        maps, *place = layer.shape
        found.append(
            {
                "layer": layer.name.upper() if layer.name != "output" else "output",
                "type": TYPES[layer.kind],
                "maps": maps,
                "window": f"{window}\u00a0×\u00a0{window}" if window else "–",
                "stride": stride or "–",
                "output": "\u00a0×\u00a0".join(map(str, place or [1, 1])),
                "parameters": layer.parameters,
                "connections": layer.connections,
                "MACs": layer.macs,
                "receptive_field": "whole image" if layer.receptive_field is None else f"{layer.receptive_field} px",
            }
        )
    return found


def _window(module: nn.Module) -> tuple[int, int]:
    """Side of a layer's window and its stride; zeros for a layer without."""
    if isinstance(module, nn.Conv2d):
        return int(module.kernel_size[0]), int(module.stride[0])
    if type(module).__name__ == "TableConv2d":
        return 5, 1
    if isinstance(module, nn.MaxPool2d) or type(module).__name__ == "Subsampling":
        return 2, 2
    return 0, 0


def dicts_table(caption: str, rows: Sequence[dict[str, Any]], texts: int = 2) -> Table:
    """Flat records as a table.

    Args:
        caption: what it shows.
        rows: at least one.
        texts: so many columns from the left hold text; the others are set to the right.
    """
    columns = [Column(title=key.replace("_", " "), number=i >= texts) for i, key in enumerate(rows[0])]
    cells = [[f"{value:,}" if isinstance(value, int) else str(value) for value in row.values()] for row in rows]
    return table(caption, columns, cells)


def with_sum(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The records and a last one that adds the counts up."""
    counts = {key: sum(row[key] for row in rows) for key in ("parameters", "connections", "MACs")}
    return [*rows, {**dict.fromkeys(rows[0], ""), "layer": "sum", **counts}]


def confusion(truths: Integer[np.ndarray, " n"], answers: Integer[np.ndarray, " n"]) -> Integer[np.ndarray, "10 10"]:
    """Images of digit i that were read as j."""
    counts: Array = np.zeros((10, 10), dtype=np.int64)
    np.add.at(counts, (truths, answers), 1)
    return counts


def confused_pairs(counts: Integer[np.ndarray, "10 10"], most: int = 5) -> list[dict[str, int]]:
    """Pairs of digits taken for each other, the most frequent first; pairs that never were are left out."""
    pairs = [
        {"first": a, "second": b, "read_as_second": int(counts[a, b]), "read_as_first": int(counts[b, a])}
        for a in range(10)
        for b in range(a + 1, 10)
        if counts[a, b] + counts[b, a]
    ]
    return sorted(pairs, key=lambda p: -(p["read_as_second"] + p["read_as_first"]))[:most]


def architecture_section() -> Section:
    """The layer tables of both forms, Table I, and what the comparison says."""
    seen: Array = np.zeros((6, 16), dtype=bool)
    for map_, maps in enumerate(C3_TABLE):
        seen[list(maps), map_] = True
    marks = marks_figure(
        seen,
        [str(i) for i in range(6)],
        [str(i) for i in range(16)],
        name="c3-table",
        title="Table I: which maps of S2 each map of C3 sees",
        caption="60 of 96 pairs are linked; each link is one 5 × 5 window of weights. Counts stand at the edges.",
        x_label="map of C3",
        y_label="map of S2",
    )
    tables = [
        dicts_table(
            f"LeNet-5, {words}, counted from the network. A connection is one use of a weight or a bias; a MAC is one "
            "multiplication with its addition. Activations are left out.",
            with_sum(layer_dicts(row)),
        )
        for row, words in (("lenet5_original", "the original of 1998"), ("lenet5", "the modern form"))
    ]
    return Section(title="Layers", name="layers", blocks=(*tables, Figures((marks,))))


def training_section(forms: Sequence[Trained], published_error: float | None) -> Section:
    """Loss and error of every epoch."""
    panels = [
        Panel(
            title=f"Loss, {form.label}",
            series=[
                Series(label="training", x=_epochs(form), y=[row["probe_loss"] for row in form.rows], name="training"),
                Series(label="test", x=_epochs(form), y=[row["watch_loss"] for row in form.rows], name="test"),
            ],
            x_label="epoch",
            y_label="cross-entropy (nat)" if form.name == "modern" else "equation 9 (squared distance)",
            log_y=True,
        )
        for form in forms
    ]
    panels += [
        Panel(
            title=f"Error, {form.label}",
            series=[
                Series(label=part, x=_epochs(form), y=[100 - 100 * row[key] for row in form.rows], name=part)
                for part, key in (("training", "probe_accuracy"), ("test", "watch_accuracy"))
            ],
            x_label="epoch",
            y_label="images misread (%)",
            log_y=True,
            references=[Reference(value=published_error, label="test error of the paper")]
            if published_error and form.name == "original"
            else [],
        )
        for form in forms
    ]
    figure = curves_figure(
        panels,
        name="curves",
        title="Loss and error by epoch",
        caption="Training: a fixed sample of the training images, scored after the epoch. Nothing was chosen by the "
        "test curve: the last epoch's weights count. The losses of the two forms have different units.",
        columns=2,
    )
    return Section(title="Training", name="training", blocks=(Figures((figure,)), _epochs_details(forms)))


def _epochs(form: Trained) -> list[int]:
    return [row["epoch"] for row in form.rows]


def mistakes_section(forms: Sequence[Trained], images: ImageSet) -> Section:
    """Confusion of the ten digits, errors by digit, and images of the most-confused pairs."""
    truths = images.test.labels
    matrices = tuple(_confusion_figure(form, truths) for form in forms)
    bars = []
    for digit in range(10):
        rows = truths == digit
        for form in forms:
            wrong, n = int((form.answers[rows] != digit).sum()), int(rows.sum())
            low, high = wilson_interval(wrong / n, n)
            bars.append(
                Bar(
                    label=str(digit), value=100 * wrong / n, low=100 * low, high=100 * high, series=form.label,
                    note=f"{wrong} of {n:,}",
                )
            )  # fmt: skip
    by_digit = bars_figure(
        bars,
        name="errors-by-digit",
        title="Test images misread, by digit",
        caption="Whiskers: Wilson's 95 % interval; at their ends the counts.",
        x_label="misread (%)",
        y_label="digit",
    )
    examples = tuple(figure for form in forms if (figure := _examples_figure(form, images)))
    return Section(
        title="Mistakes", name="mistakes", blocks=(Figures(matrices), Figures((by_digit,)), Figures(examples))
    )


def _confusion_figure(form: Trained, truths: Array) -> Figure:
    counts = confusion(truths, form.answers)
    shades = np.where(np.eye(10, dtype=bool), np.nan, counts)
    digits = [str(i) for i in range(10)]
    return heat_figure(
        shades,
        digits,
        digits,
        name=f"confusion-{form.name}",
        title=f"Confusion, {form.label}",
        caption="Rows: the digit; columns: what was read. Shades show mistakes alone; the hatched diagonal holds the "
        "images read right.",
        x_label="read as",
        y_label="digit",
        value_label="test images",
        texts=[[f"{count:,}" if count else "" for count in row] for row in counts.tolist()],
    )


def _examples_figure(form: Trained, images: ImageSet, each: int = 8) -> Figure | None:
    """Images of the most-confused pairs, the surest mistakes first."""
    truths, answers = images.test.labels, form.answers
    surest = np.argsort(-(form.logits.max(1) - form.logits[np.arange(len(truths)), truths]), kind="stable")
    rows, titles = [], []
    for pair in confused_pairs(confusion(truths, answers)):
        a, b = pair["first"], pair["second"]
        shown = [i for i in surest if {int(truths[i]), int(answers[i])} == {a, b}][:each]
        rows.append([Tile(pixels=images.test.images[i, 0], caption=f"{truths[i]} read as {answers[i]}") for i in shown])
        titles.append(f"{a} and {b}:\n{pair['read_as_second'] + pair['read_as_first']} times")
    if not rows:
        return None
    return pictures_figure(
        rows,
        name=f"confused-{form.name}",
        title=f"The most-confused pairs of digits, {form.label}",
        caption=f"Up to {each} test images of each pair; those that the network was surest of come first.",
        row_titles=titles,
        tile_inches=0.8,
        what="misread digits",
    )


def features_section(
    forms: Sequence[Trained], image: Float[np.ndarray, "1 32 32"], truths: Array, states: Array
) -> Section:
    """Filters before and after, the maps of one image, and what F6 learned to draw.

    Args:
        forms: the trained networks, modern first.
        image: intensities 0 … 1 of one test image.
        truths: digits of the test images.
        states: states of F6 of the original form for the test images [n, 84].
    """
    filters = [
        [Tile(pixels=window.astype(np.float64)) for window in windows]
        for form in forms
        for windows in (form.begun, form.network.get_parameter("c1.weight").detach().cpu().numpy()[:, 0])
    ]
    drawn = pictures_figure(
        filters,
        name="filters",
        title="The six 5 × 5 filters of C1 before and after training",
        caption="Purple weights are positive, orange negative; each row has its own scale.",
        row_titles=[f"{form.label}\n{when}" for form in forms for when in ("before", "after")],
        column_titles=[f"map {i}" for i in range(6)],
        scale="row",
        signed=True,
        value_label="weight",
        tile_inches=0.75,
        what="filters",
    )
    return Section(
        title="What it learned",
        name="features",
        blocks=(
            Figures((drawn, _codes_figure(truths, states))),
            Figures((_maps_figure(forms, image),)),
        ),
    )


def _codes_figure(truths: Array, states: Array) -> Figure:
    shape = (CODE_HEIGHT, CODE_WIDTH)
    codes = [code.reshape(shape).astype(np.float64) for code in digit_codes().numpy()]
    means = [
        states[truths == digit].mean(0).reshape(shape).astype(np.float64) if (truths == digit).any() else None
        for digit in range(10)
    ]
    return pictures_figure(
        [codes, means],
        name="codes",
        title="The codes of the ten RBF outputs, and what F6 answers",
        caption="Above: the fixed codes, ±1. Below: the mean state of F6's 84 units over the test images of each "
        "digit, laid out as 12 × 7: training makes the last hidden layer draw the digit's bitmap.",
        row_titles=["code", "mean of F6"],
        column_titles=[str(i) for i in range(10)],
        signed=True,
        limits=(-1.7159, 1.7159),
        value_label="state",
        tile_inches=0.8,
        what="bitmaps",
    )


def _maps_figure(forms: Sequence[Trained], image: Array) -> Figure:
    layers = {"modern": ("relu1", "s2", "relu3", "s4"), "original": ("squash1", "squash2", "squash3", "squash4")}
    rows: list[list[Tile]] = []
    titles = []
    for form in forms:
        for name, maps in zip(("C1", "S2", "C3", "S4"), _maps(form, image, layers[form.name]), strict=True):
            rows.append([Tile(pixels=map_.astype(np.float64)) for map_ in maps])
            titles.append(f"{form.label}\n{name}, {maps.shape[1]} × {maps.shape[2]}")
    return pictures_figure(
        rows,
        name="maps",
        title="One test image in the maps of C1, S2, C3 and S4",
        caption="After activation or pooling; each row has its own scale from black to white.",
        row_titles=titles,
        scale="row",
        value_label="state",
        tile_inches=0.55,
        what="maps",
    )


def _maps(form: Trained, image: Array, layers: Sequence[str]) -> list[Array]:
    """Maps of some layers for one image, each [maps, h, w]."""
    found: dict[str, Array] = {}
    modules = [(name, form.network.get_submodule(name)) for name in layers]
    hooks = [
        module.register_forward_hook(lambda _, __, out, name=name: found.update({name: out[0].cpu().numpy()}))
        for name, module in modules
    ]
    _run(form, image[None])
    for hook in hooks:
        hook.remove()
    return [found[name] for name in layers]


def _run(form: Trained, images: Array) -> None:
    device = next(form.network.parameters()).device
    with torch.inference_mode():
        form.network((torch.from_numpy(images).float().to(device) - form.mean) / form.std)


def states_of(network: LeNet5Original, form: Trained, images: Array) -> Float[np.ndarray, "n 84"]:
    """States of F6 of the original form for images uint8 [n, 1, 32, 32]."""
    device = next(network.parameters()).device
    with torch.inference_mode():
        parts = [
            network.codes_of((batch.to(device).float() / 255 - form.mean) / form.std).cpu()
            for batch in torch.split(torch.from_numpy(images), 512)
        ]
    states: Array = torch.cat(parts).numpy()
    return states


def legacy_dicts() -> list[dict[str, str]]:
    """What later networks took from LeNet-5."""
    return [{"in LeNet-5": old, "what became of it": new, "read": source} for old, new, source in LEGACY]


def legacy_section() -> Section:
    """The table of what later networks took from LeNet-5, which is literature and not measured."""
    words = Paragraph(
        "This table states what the literature reports; nothing in it was measured here, and the papers could not be "
        "opened from where this was written."
    )
    return Section(
        title="What later networks took from it",
        name="legacy",
        blocks=(words, dicts_table("Parts of LeNet-5 and what became of them.", legacy_dicts(), texts=3)),
    )


def _epochs_details(forms: Sequence[Trained]) -> Details:
    """Every epoch's numbers, folded."""
    rows = [
        {
            "form": form.label,
            "epoch": str(row["epoch"]),
            "training loss": f"{row['probe_loss']:.4f}",
            "test loss": f"{row['watch_loss']:.4f}",
            "training accuracy (%)": f"{100 * row['probe_accuracy']:.2f}",
            "test accuracy (%)": f"{100 * row['watch_accuracy']:.2f}",
            "seconds": f"{row['fit_s']:.1f}",
        }
        for form in forms
        for row in form.rows
    ]
    return Details(summary="Every epoch", blocks=(dicts_table("Every epoch of the first seed.", rows, texts=1),))
