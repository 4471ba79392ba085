"""The figures and sections of the study of filters."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from hilum.explanation.filters import COLOUR_SHARE, KINDS, ORIENTED, FilterTraits, random_spread_limit
from hilum.reports.canvas import Figure
from hilum.reports.charts import Bar, bars_figure
from hilum.reports.curves import Panel, Reference, Series, curves_figure
from hilum.reports.page import Bullets, Details, Figures, Paragraph, Section
from hilum.reports.pictures import Tile, pictures_figure
from hilum.reports.tables import Column, Table, number, table
from hilum.studies.alexnet_filters_layers import FilterLayer
from hilum.studies.alexnet_filters_subject import Subject

SIDES = {"trained": ("before", "after"), "loaded": ("random", "loaded"), "random": ("other draw", "this draw")}
"""Short names of the two states that are compared."""

MOST = 64
"""Filters of one state that a figure shows."""

MOST_LETTERS = 40
"""Letters that names of layers below an axis may have together."""

RULE = (
    "dead: a norm below 5 % of the layer's median",
    "unspecific: its power is spread over the frequency plane as that of 99 % of Gaussian random filters of its shape "
    "is, or it is neither oriented nor round",
    "colour: at least half of its energy is in the two colour-opponent axes",
    "edge: oriented; the power-weighted mean of exp(2iθ) is at least 0.42 long",
    "blob: round",
)
"""The rule of ``explanation.filters`` in short."""


def first_section(subject: Subject, layer: FilterLayer) -> Section:
    """The first layer's filters: before and after, by kind, and what was measured on each."""
    return Section(
        title="The first layer's filters",
        name="filters",
        blocks=(
            Figures((_filters_figure(subject, layer),)),
            Paragraph(
                "Each filter is named by a fixed rule, in this order; nothing is fitted and nothing sorted by eye:"
            ),
            Bullets(RULE),
            Figures((_shares_figure(subject, layer), _kinds_figure(subject, layer))),
            Figures((_traits_figure(subject, layer),)),
            Details(summary="Every filter of the first layer", blocks=(_traits_table(layer),)),
        ),
    )


def as_tile(weights: Float[np.ndarray, "i y x"], *, caption: str = "") -> Tile:
    """One filter as a tile: colours where it sees three channels, shades where it sees one."""
    pixels = weights.transpose(1, 2, 0) if len(weights) == 3 else weights[0]
    return Tile(pixels=np.ascontiguousarray(pixels, dtype=np.float64), caption=caption)


def _filters_figure(subject: Subject, layer: FilterLayer) -> Figure:
    """Two blocks of eight columns side by side."""
    many = min(MOST, len(layer.filters))
    gap = Tile(pixels=None)
    rows = []
    for start in range(0, many, 8):
        units = range(start, min(start + 8, many))
        left, right = ([as_tile(block[unit]) for unit in units] for block in (layer.before, layer.filters))
        rows.append([*left, *[gap] * (9 - len(left)), *right])
    titles = [""] * max(map(len, rows))
    titles[0], titles[9] = SIDES[subject.origin]
    colours = layer.filters.shape[1] == 3
    return pictures_figure(
        rows,
        name="filters",
        title=f"First-layer filters of {subject.label} {subject.words}: {' and '.join(SIDES[subject.origin])}",
        caption=f"{many} of {len(layer.filters)} filters of {layer.filters.shape[2]} × {layer.filters.shape[3]} pixels "
        f"{'in red, green and blue; mid grey is 0' if colours else 'on one channel'}. Left "
        f"{SIDES[subject.origin][0]}, right {SIDES[subject.origin][1]}, the same filter at the same place. Each filter "
        "is stretched to its own largest weight.",
        column_titles=titles,
        scale="each",
        signed=True,
        value_label="weight",
        tile_inches=0.5,
        what="filters",
    )


def _shares_figure(subject: Subject, layer: FilterLayer) -> Figure:
    bars = []
    for kind in KINDS:
        for side, traits in zip(SIDES[subject.origin], (layer.traits_before, layer.traits), strict=True):
            count = sum(trait.kind == kind for trait in traits)
            share = 100 * count / len(traits)
            bars.append(Bar(label=kind, value=share, series=side, note=f"{count} of {len(traits)}"))
    return bars_figure(
        bars,
        name="kind-shares",
        title="Kinds of first-layer filters",
        caption="All filters of the layer were measured, so there is no interval. A random filter passes for specific "
        "in one case of a hundred by the rule's own making.",
        x_label="filters (%)",
        limits=(0, 100),
    )


def _kinds_figure(subject: Subject, layer: FilterLayer, across: int = 12) -> Figure:
    """Filters by kind, with the frequency that they pass most, and the direction of an edge's stripes."""
    rows: list[list[Tile]] = []
    titles: list[str] = []
    for kind in KINDS:
        of_kind = [trait for trait in layer.traits if trait.kind == kind][:MOST]
        of_kind.sort(key=lambda trait: (trait.orientation_deg or 0.0) if kind == "edge" else -(trait.norm))
        for start in range(0, len(of_kind), across):
            rows.append([as_tile(layer.filters[t.unit], caption=_caption(t)) for t in of_kind[start : start + across]])
            titles.append(f"{kind}\n({len(of_kind)})" if not start else "")
    return pictures_figure(
        rows,
        name="kinds",
        title="The first layer's filters by kind",
        caption="Below each filter the spatial frequency that it passes most, in cycles a pixel; of an edge also the "
        "direction of its stripes, counter-clockwise from the horizontal.",
        row_titles=titles,
        scale="each",
        signed=True,
        value_label="weight",
        tile_inches=0.5,
        what="filters",
    )


def _caption(trait: FilterTraits) -> str:
    if trait.frequency is None:
        return "–"
    angle = f"\n{trait.orientation_deg:.0f}°" if trait.kind == "edge" and trait.orientation_deg is not None else ""
    return f"{trait.frequency:.2f}{angle}"


def _traits_figure(subject: Subject, layer: FilterLayer) -> Figure:
    """Orientation, frequency, spread and colour of every filter, before and after."""
    colours = layer.filters.shape[1] == 3
    limit = random_spread_limit(*layer.filters.shape[1:])
    shape = _points(subject, layer, "frequency", "selectivity")
    panels = [
        Panel(
            title="Frequency and orientation",
            series=shape,
            x_label="frequency passed most (cycles a pixel)",
            y_label="orientation selectivity (0 to 1)",
            y_range=(0, 1),
            references=[Reference(value=ORIENTED, label="edge from here")],
        ),
        Panel(
            title="Spread and colour" if colours else "Spread and orientation",
            series=_points(subject, layer, "spread", "chroma_share" if colours else "selectivity"),
            x_label="share of the frequency plane (0 to 1)",
            y_label="share of energy in colour (0 to 1)" if colours else "orientation selectivity (0 to 1)",
            y_range=(0, 1),
            references=[
                Reference(value=limit, label="random from here", axis="x"),
                *([Reference(value=COLOUR_SHARE, label="colour from here")] if colours else []),
            ],
        ),
    ]
    return curves_figure(
        panels,
        name="traits",
        title="What was measured on each first-layer filter",
        caption="One point for each filter. Left of the upright line a filter's power is more concentrated than that "
        f"of 99 % of random ones.{' By chance two thirds of the energy are in colour.' if colours else ''}",
        legend="above",
    )


def _points(subject: Subject, layer: FilterLayer, x: str, y: str) -> list[Series]:
    found = []
    for side, traits in zip(SIDES[subject.origin], (layer.traits_before, layer.traits), strict=True):
        pairs = [(getattr(trait, x), getattr(trait, y)) for trait in traits if getattr(trait, y) is not None]
        found.append(Series(label=side, x=[pair[0] for pair in pairs], y=[pair[1] for pair in pairs], style="points"))
    return found


def _traits_table(layer: FilterLayer) -> Table:
    columns = [
        Column(title="filter", number=True),
        Column(title="kind"),
        Column(title="norm", number=True),
        Column(title="frequency", unit="cycles/px", number=True),
        Column(title="direction", unit="°", number=True),
        Column(title="selectivity", number=True),
        Column(title="bandwidth", unit="°", number=True),
        Column(title="spread", number=True),
        Column(title="in colour", number=True),
    ]
    rows = [
        [
            str(t.unit), t.kind, number(t.norm, 2), _maybe(t.frequency, 3), _maybe(t.orientation_deg, 0),
            _maybe(t.selectivity, 2), _maybe(t.bandwidth_deg, 0), _maybe(t.spread, 2), _maybe(t.chroma_share, 2),
        ]
        for t in layer.traits
    ]  # fmt: skip
    return table("What was measured on each filter of the first layer.", columns, rows)


def _maybe(value: float | None, digits: int) -> str:
    return "–" if value is None else number(value, digits)


def training_section(subject: Subject, measured: Mapping[str, Any]) -> Section:
    """How the network learned, and when its filters did."""
    facts = measured["training"]
    rows, many = facts["rows"], measured["first_layer_window"][0]
    epochs = [row["epoch"] for row in rows]

    def lines(**keys: tuple[str, float]) -> list[Series]:
        return [
            Series(label=label, x=epochs, y=[factor * row[key] for row in rows], name=label)
            for label, (key, factor) in keys.items()
        ]

    figure = curves_figure(
        [
            Panel(
                title="Loss", series=lines(training=("probe_loss", 1), test=("watch_loss", 1)), x_label="epoch",
                y_label="cross-entropy (nat)",
            ),
            Panel(
                title="Accuracy", series=lines(training=("probe_accuracy", 100), test=("watch_accuracy", 100)),
                x_label="epoch", y_label="images named right (%)",
                references=[Reference(value=facts["chance_%"], label="largest class")],
            ),
            Panel(
                title="First-layer filters",
                series=[
                    *lines(specific=("specific", 100 / many), spread=("spread", 100)),
                ],
                x_label="epoch", y_label="specific filters; mean spread (%)", y_range=(0, 100),
            ),
        ],
        name="training",
        title=f"{subject.label} while it is trained",
        caption="Training: a fixed sample of the training images, scored after the epoch. Specific: first-layer "
        "filters that measure as edge, blob or colour. Spread: share of the frequency plane that a "
        "filter's power covers.",
    )  # fmt: skip
    words = Paragraph(
        f"{facts['steps']:,} steps of up to 16 images, {facts['epochs']} passes over {facts['images']:,} images of "
        f"{facts['side_px']} × {facts['side_px']} px, in {facts['training_s']:,.0f} s. The convolutional part is the "
        "published one; in place of the published classifier stands a small head (mean over places, BatchNorm, one "
        "linear layer), so that any size of image fits. Nothing was chosen by the test images: the last weights count."
    )
    return Section(title="How it was trained", name="training", blocks=(words, Figures((figure,))))


def layers_section(subject: Subject, layers: Sequence[FilterLayer], measured: Mapping[str, Any]) -> Section:
    """Filters of all layers: their kinds, and pictures of some."""
    rows = measured["filter_layers"]
    names = [row["layer"] for row in rows]
    short = sum(map(len, names)) <= MOST_LETTERS
    ticks = [(float(i), name if short else str(i + 1)) for i, name in enumerate(names)]
    before, after = SIDES[subject.origin]

    def panel(title: str, label: str, key: str, factor: float, top: float) -> Panel:
        return Panel(
            title=title,
            series=[
                Series(label=side, x=list(range(len(rows))), y=[factor * row[name] for row in rows], name=side)
                for side, name in (
                    (before, f"{key.rstrip('%_')}_before{'_%' if key.endswith('%') else ''}"),
                    (after, key),
                )
            ],
            x_label="convolution" if short else "convolution (row of the table)",
            y_label=label,
            x_ticks=ticks,
            y_range=(0, top),
        )

    figure = curves_figure(
        [
            panel("Filters with a shape", "edge, blob or colour (%)", "specific_%", 1, 100),
            panel("Mean spread", "share of the frequency plane (%)", "spread", 100, 100),
        ],
        name="layers",
        title="Filters of each convolution",
        caption="Colour is only defined for the first layer. A window of 3 × 3 holds little: whatever its weights, its "
        "power covers much of the plane.",
    )
    shown = list(layers[1:])[:5] if len(layers) <= 6 else [layers[i] for i in spaced(len(layers), 5)]
    deep = (Figures((_deep_figure(shown),)),) if shown else ()
    return Section(
        title="Every layer's filters",
        name="layers",
        blocks=(Figures((figure,)), *deep, _filters_table(rows)),
    )


def spaced(many: int, count: int) -> list[int]:
    """So many of the places 1 … many − 1, evenly spaced, the last among them."""
    return sorted({int(place) for place in np.linspace(1, many - 1, count).round()})


def _deep_figure(layers: Sequence[FilterLayer], across: int = 12) -> Figure:
    """Of evenly spaced filters of deeper layers the window on the input map that carries most of the energy."""
    rows = []
    for layer in layers:
        units = np.linspace(0, len(layer.filters) - 1, min(across, len(layer.filters))).round().astype(int)
        tiles = []
        for unit in units:
            window = layer.filters[unit]
            channel = int((window**2).sum((1, 2)).argmax())
            tiles.append(Tile(pixels=window[channel].astype(np.float64), caption=f"{unit} on {channel}"))
        rows.append(tiles)
    return pictures_figure(
        rows,
        name="deep-filters",
        title="Windows of deeper filters on the map that they weigh most",
        caption="Evenly spaced filters. A deeper filter has one window for each map of the layer before; shown is the "
        "one with the most energy, with the number of the filter and of that map. Purple is positive, orange negative.",
        row_titles=[f"{layer.label}\n{layer.filters.shape[2]} × {layer.filters.shape[3]}" for layer in layers],
        scale="each",
        signed=True,
        value_label="weight",
        tile_inches=0.6,
        what="windows",
    )


def _filters_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    columns = [
        Column(title="layer"),
        Column(title="filters", number=True),
        Column(title="window"),
        Column(title="analysed", number=True),
        *(Column(title=kind, number=True) for kind in KINDS),
        Column(title="specific", unit="%", number=True),
        Column(title="reference", unit="%", number=True),
        Column(title="spread", number=True),
        Column(title="reference", number=True),
        Column(title="distance", number=True),
        Column(title="leftover", unit="%", number=True),
    ]
    cells = [
        [
            row["layer"], f"{row['filters']:,}", row["window"], f"{row['analysed']:,}",
            *(str(row[kind]) for kind in KINDS), number(row["specific_%"], 1), number(row["specific_before_%"], 1),
            number(row["spread"], 3), number(row["spread_before"], 3), number(row["distance"], 2),
            number(row["leftover_%"], 1),
        ]
        for row in rows
    ]  # fmt: skip
    return table(
        "Convolutions with a window. Reference: the same before training, or of random weights. Distance: length of "
        "the change of all weights over the length of the reference. Leftover: share of the energy that lies along it.",
        columns,
        cells,
    )
