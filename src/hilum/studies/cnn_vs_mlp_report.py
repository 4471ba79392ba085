"""What the report of the CNN and MLP study says and shows: the finding, figures and tables of what was measured."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from hilum.arrays import Array
from hilum.datasets.image_sets import ImageSet
from hilum.intervals import numeral
from hilum.reports.canvas import Figure
from hilum.reports.charts import Bar, bars_figure
from hilum.reports.curves import Panel, Series, curves_figure
from hilum.reports.page import Figures, Paragraph, Section
from hilum.reports.pictures import Tile, pictures_figure
from hilum.reports.tables import Column, Table, table


def finding(measured: dict[str, Any], title: str) -> str:
    """What was found, in words that follow from the numbers."""
    kinds = measured["kinds"]
    mean = {name: float(np.mean(values["plain"])) for name, values in kinds.items()}
    macs = kinds["mlp_macs"]
    sentences = [
        f"On {title}, with {measured['train']:,} training images, the CNN reads {mean['cnn']:.2f} % of the test images "
        f"right, the MLP with as many parameters {mean['mlp_parameters']:.2f} %, the MLP with as many "
        f"multiply-accumulates (and {macs['parameters'] / kinds['cnn']['parameters']:.1f} times the parameters) "
        f"{mean['mlp_macs']:.2f} %.",
        *(_against(measured, name) for name in ("mlp_parameters", "mlp_macs")),
        _moved(measured),
        _reordered(measured),
        *(_fewer(measured, name) for name in ("mlp_parameters", "mlp_macs")),
    ]
    return " ".join(sentences)


def _points(values: dict[str, Any]) -> str:
    """A difference without its sign where the interval has one, else with it."""
    mean, low, high = values["mean"], values["low"], values["high"]
    if low is None:
        return f"{numeral(mean, '+.2f')} points"
    if low * high <= 0:
        return f"{numeral(mean, '+.2f')} points ({numeral(low, '+.2f')} to {numeral(high, '+.2f')})"
    return f"{abs(mean):.2f} points ({min(abs(low), abs(high)):.2f}–{max(abs(low), abs(high)):.2f})"


def _turned(values: dict[str, Any]) -> dict[str, Any]:
    """A loss as a change: with the other sign."""
    low, high = values["low"], values["high"]
    bounds = {"low": None, "high": None} if low is None else {"low": -high, "high": -low}
    return {"mean": -values["mean"], **bounds}


def _against(measured: dict[str, Any], name: str) -> str:
    values, label = measured["comparisons"][f"against {name}"], measured["kinds"][name]["label"]
    if values["sign"]:
        side = "better" if values["sign"] > 0 else "worse"
        return f"The CNN is {side} than the {label} by {_points(values)}."
    return f"The CNN differs from the {label} by {_points(values)}, which {measured['seeds']} seeds don't tell from 0."


def _moved(measured: dict[str, Any]) -> str:
    kinds = measured["kinds"]
    shifts = sorted(int(shift) for shift in kinds["cnn"]["by_shift"])
    middle, last = shifts[len(shifts) // 2], shifts[-1]
    words = []
    for values in kinds.values():
        right = [float(np.mean(values["by_shift"][str(shift)])) for shift in (0, middle, last)]
        words.append(f"{right[0]:.1f} → {right[1]:.1f} → {right[2]:.1f} ({values['label']})")
    at = {
        name: {shift: float(np.mean(values["by_shift"][str(shift)])) for shift in (middle, last)}
        for name, values in kinds.items()
    }
    gains = [
        f"at {shift} px the CNN is {numeral(at['cnn'][shift] - at['mlp_macs'][shift], '+.1f')} points from the MLP of "
        "equal MACs, "
        f"and the averaging head {numeral(at['cnn_pooled'][shift] - at['cnn'][shift], '+.1f')} from the CNN"
        for shift in (middle, last)
    ]
    return f"Moved by 0, {middle} and {last} px, per cent right: {', '.join(words)}; {'; '.join(gains)}."


def _reordered(measured: dict[str, Any]) -> str:
    """What one fixed order of all pixels does to each network."""
    words = []
    reordered = [name for name in measured["kinds"] if f"permuted {name}" in measured["comparisons"]]
    for name in reordered:
        kind, values = measured["kinds"][name], measured["comparisons"][f"permuted {name}"]
        if values["sign"]:
            words.append(f"the {kind['label']} {'loses' if values['sign'] > 0 else 'gains'} {_points(values)}")
        else:
            change = _points(_turned(values))
            words.append(f"the {kind['label']} changes by {change}, which the seeds don't tell from 0")
    signs = {name: measured["comparisons"][f"permuted {name}"]["sign"] for name in reordered}
    only = signs["cnn"] > 0 and signs["mlp_parameters"] <= 0 and signs["mlp_macs"] <= 0
    lesson = "the order of pixels helps the CNN alone" if only else "that only the CNN suffers was not shown here"
    return f"With all pixels in one fixed other order, {'; '.join(words)}: {lesson}."


def _fewer(measured: dict[str, Any], name: str) -> str:
    enough_images, label = measured["as_good_at"][name], measured["kinds"][name]["label"]
    if enough_images is None:
        return f"No training size was found at which the CNN equals what the {label} reaches with all images."
    part = measured["train"] / enough_images
    return (
        f"With about {enough_images:,.0f} training images, {part:.1f} times fewer, the CNN equals what the {label} "
        "reaches with all."
    )


def _time(kinds: dict[str, dict[str, Any]]) -> str:
    seconds = {name: float(np.median(values["epoch_s"])) for name, values in kinds.items()}
    ratio = seconds["cnn"] / seconds["mlp_macs"]
    return (
        f"Equal arithmetic need not be equal time: an epoch takes the CNN {seconds['cnn']:.1f} s, {ratio:.1f} "
        f"times the {seconds['mlp_macs']:.1f} s of the MLP with as many; the one with as many parameters takes "
        f"{seconds['mlp_parameters']:.1f} s."
    )


def sections(
    measured: dict[str, Any], images: ImageSet, networks: Mapping[str, nn.Module], order: Array
) -> tuple[Section, ...]:
    """The report's parts.

    Args:
        measured: everything measured.
        images: the digits.
        networks: the first seed's networks by kind, fitted to all training images as they are.
        order: the first seed's other order of pixels.
    """
    return (
        Section(
            title="Networks of equal size and of equal arithmetic",
            name="networks",
            blocks=(
                _networks_table(measured),
                Paragraph(_time(measured["kinds"])),
                Figures((_errors_figure(measured),)),
            ),
        ),
        Section(
            title="Images that are moved, and pixels in another order",
            name="shifts",
            blocks=(Figures((_inputs_figure(images, order),)), Figures((_shifts_figure(measured),))),
        ),
        Section(title="Fewer training images", name="sizes", blocks=(Figures((_sizes_figure(measured),)),)),
        _features_section(measured, images, networks),
    )


def _spread(measured: dict[str, Any]) -> str:
    n = measured["seeds"]
    return f"Whiskers: smallest and largest of {n} seeds." if n > 1 else "One seed."


def _networks_table(measured: dict[str, Any]) -> Table:
    rows = measured["networks"]
    columns = [Column(title=key.replace("_", " "), number=i > 0) for i, key in enumerate(rows[0])]
    cells = [[f"{v:,}" if isinstance(v, int) else str(v) for v in row.values()] for row in rows]
    return table(
        "Counted by anatomy and measured on the test images; per cent right with the smallest and largest of the "
        "seeds. Times: fitting, and answering in batches of 256.",
        columns,
        cells,
    )


def _errors_figure(measured: dict[str, Any]) -> Figure:
    bars = []
    for values in measured["kinds"].values():
        for series, key in (("in order", "plain"), ("pixels reordered", "permuted")):
            wrong = [100 - right for right in values[key]]
            if not wrong:
                continue
            bounds = {"low": min(wrong), "high": max(wrong)} if len(wrong) > 1 else {}
            label = f"{values['label']}\n{values['parameters']:,} parameters, {values['macs'] / 1e6:.2f} M MACs"
            bars.append(Bar(label=label, value=float(np.mean(wrong)), series=series, **bounds))
    return bars_figure(
        bars,
        name="errors",
        title="Test images misread, with pixels in order and reordered",
        caption=f"Reordered: all pixels in one fixed other order, in training and test alike. {_spread(measured)}",
        x_label="test images misread (%)",
    )


def _shifts_figure(measured: dict[str, Any]) -> Figure:
    lines = [_line(values["label"], values["by_shift"]) for values in measured["kinds"].values()]
    panel = Panel(series=lines, x_label="shift of the test images (px)", y_label="read right (%)")
    return curves_figure(
        [panel],
        name="shifts",
        title="Accuracy when test images are moved",
        caption=f"{measured['shifted']:,} test images, moved left, right, up and down; the mean of the four. The "
        f"networks were fitted to images in place. {_spread(measured)}",
        legend="right",
    )


def _sizes_figure(measured: dict[str, Any]) -> Figure:
    lines = [
        _line(values["label"], {size: [100 - right for right in values["by_size"][size]] for size in values["by_size"]})
        for values in measured["kinds"].values()
        if len(values["by_size"]) > 1
    ]
    panel = Panel(series=lines, x_label="training images", y_label="test images misread (%)", log_x=True, log_y=True)
    return curves_figure(
        [panel],
        name="sizes",
        title="Error against the number of training images",
        caption=f"Both axes are logarithmic. Smaller sets lie inside larger ones of the same seed. {_spread(measured)}",
        legend="above",
    )


def _line(label: str, by_place: Mapping[str, Sequence[float]]) -> Series:
    values = list(by_place.values())
    several = len(values[0]) > 1
    return Series(
        label=label,
        x=[int(place) for place in by_place],
        y=[float(np.mean(at)) for at in values],
        low=[min(at) for at in values] if several else (),
        high=[max(at) for at in values] if several else (),
    )


def _inputs_figure(images: ImageSet, order: Array, count: int = 8) -> Figure:
    """Test images in place, moved, and with their pixels in another order."""
    some = images.test.images[:count, 0]
    moved = np.zeros_like(some)
    moved[:, :, 4:] = some[:, :, :-4]
    mixed = some.reshape(len(some), -1)[:, order].reshape(some.shape)
    return pictures_figure(
        [list(some), list(moved), list(mixed)],
        name="inputs",
        title="What the networks are given",
        caption="The reordering is one and the same for all images of a seed; no pixel is lost by it.",
        row_titles=["in place", "moved by 4 px", "reordered"],
        tile_inches=0.8,
        what="digits",
    )


def _features_section(measured: dict[str, Any], images: ImageSet, networks: Mapping[str, nn.Module]) -> Section:
    """What the layers learned: filters, weights as images, maps, and the patches that excite them most."""
    mean, std = measured["kinds"]["cnn"]["normalisation"]
    cnn = networks["cnn"]
    filters = cnn.get_parameter("c1.weight").detach().cpu().numpy()[:, 0].astype(np.float64)
    rows, titles = [list(filters)], ["CNN, C1\n5 × 5"]
    for name in ("mlp_parameters", "mlp_macs"):
        weights = networks[name].get_parameter("fc1.weight").detach().cpu().numpy()
        side = round(weights.shape[1] ** 0.5)
        strongest = np.argsort(-np.linalg.norm(weights, axis=1), kind="stable")[:6]
        rows.append(list(weights[strongest].reshape(-1, side, side).astype(np.float64)))
        titles.append(f"{measured['kinds'][name]['label']}\n{side} × {side}")
    weights_figure = pictures_figure(
        rows,
        name="weights",
        title="Weights of the first layer as images",
        caption="The CNN's six filters; of each MLP the six units with the largest weights. Purple is positive, orange "
        "negative; each row has its own scale. A filter is used at every place, a unit's weights at theirs alone.",
        row_titles=titles,
        scale="row",
        signed=True,
        value_label="weight",
        what="weights",
    )
    scored = images.test.images[:2000]
    maps = {name: _maps(cnn, (scored / np.float32(255) - mean) / std, name) for name in ("relu1", "relu3")}
    return Section(
        title="Features, from strokes to parts of digits",
        name="features",
        blocks=(
            Paragraph(
                "The first layer answers to a place of 5 × 5 px, the second to 14 × 14 px and through all six maps of "
                "the first. The patches are those of the test images that excite a map most, whatever the digit."
            ),
            Figures((weights_figure,)),
            Figures((_maps_figure(images.test.images[0, 0], maps),)),
            Figures((_patches_figure(scored[:, 0], maps),)),
        ),
    )


def _maps(network: nn.Module, inputs: Array, layer: str) -> Array:
    """Maps of a layer for normalised images, float32 [n, maps, h, w]."""
    found: list[Array] = []
    hook = network.get_submodule(layer).register_forward_hook(lambda _, __, out: found.append(out.cpu().numpy()))
    device = next(network.parameters()).device
    with torch.inference_mode():
        for batch in torch.split(torch.from_numpy(inputs.astype(np.float32)), 500):
            network(batch.to(device))
    hook.remove()
    return np.concatenate(found)


def _maps_figure(image: Array, maps: Mapping[str, Array]) -> Figure:
    first, second = maps["relu1"][0].astype(np.float64), maps["relu3"][0].astype(np.float64)
    return pictures_figure(
        [[image], list(first), list(second[:8]), list(second[8:])],
        name="maps",
        title="One test image in the maps of the CNN",
        caption="After ReLU; each row has its own scale from black to white.",
        row_titles=["image", "C1, 28 × 28", "C3, 10 × 10", "C3, 10 × 10"],
        scale="row",
        value_label="state",
        tile_inches=0.75,
        what="maps",
    )


def _patches_figure(images: Array, maps: Mapping[str, Array], each: int = 5) -> Figure:
    """The patches that excite each map of C1 and eight maps of C3 most."""
    columns = [
        *(_patches(images, maps["relu1"][:, i], side=5, stride=1, start=-2, count=each) for i in range(6)),
        *(_patches(images, maps["relu3"][:, i], side=14, stride=2, start=-2, count=each) for i in range(8)),
    ]
    rows = [[column[place] for column in columns] for place in range(each)]
    return pictures_figure(
        rows,
        name="patches",
        title="Patches of test images that excite a map most",
        caption="Six maps of C1 (5 × 5 px) and eight of C3 (14 × 14 px), one a column; one patch an image, the "
        "strongest on top.",
        column_titles=[*(f"C1\n{i}" for i in range(6)), *(f"C3\n{i}" for i in range(8))],
        tile_inches=0.62,
        what="patches",
    )


def _patches(images: Array, map_: Array, *, side: int, stride: int, start: int, count: int) -> list[Tile]:
    """Patches of the images in which a map is strongest.

    Args:
        images: uint8 [n, h, w].
        map_: states [n, y, x].
        side: of the receptive field in pixels.
        stride: pixels from one state to the next.
        start: first pixel that the first state depends on; negative in the padding.
        count: how many.
    """
    n, _, width = map_.shape
    flat = map_.reshape(n, -1)
    best = flat.argmax(1)
    tiles = []
    for i in np.argsort(-flat.max(1), kind="stable")[:count]:
        if flat[i, best[i]] <= 0:
            tiles.append(Tile(pixels=None))  # a map that is never excited
            continue
        y, x = (start + stride * place for place in divmod(int(best[i]), width))
        padded = np.pad(images[i], side)
        tiles.append(Tile(pixels=padded[y + side : y + 2 * side, x + side : x + 2 * side]))
    return tiles + [Tile(pixels=None)] * (count - len(tiles))
