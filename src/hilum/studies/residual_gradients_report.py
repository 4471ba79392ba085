"""The report of the study of residual connections: figures, tables and what stands beside them."""

import math
from collections.abc import Callable, Sequence
from typing import Any

from hilum.reports.canvas import Figure, brief
from hilum.reports.curves import Panel, Reference, Series, curves_figure
from hilum.reports.page import Block, Figures, Paragraph, Section
from hilum.reports.tables import Column, Table, table
from hilum.studies.outcome import Outcome
from hilum.studies.residual_gradients_tables import (
    degradation_rows,
    during_rows,
    family_row,
    padding_rows,
    plainly,
    profiles,
    rate_rows,
    shortcut_rows,
    start_rows,
    ways_rows,
    without_gaps,
)
from hilum.studies.residual_gradients_words import (
    PAPER,
    PUBLISHED_MILLIONS,
    UNCHECKED,
    Rows,
    depth_words,
    falls,
    finding,
    hurt_words,
    main_numbers,
    norm_words,
    of,
    side_words,
    spelled,
    start_words,
)


def outcome(measured: dict[str, Any]) -> Outcome:
    """Everything that the study gives back."""
    tables = {
        "start": start_rows(measured["start"]),
        "blocks": measured["blocks"],
        "ways": ways_rows(measured["degradation"]),
        "gains": measured["gains"],
        "degradation": degradation_rows(measured["degradation"]),
        "falls": falls(measured["degradation"], "residual"),
        "during": during_rows(measured["degradation"]),
        "shortcuts": shortcut_rows(measured),
        "padding": padding_rows(measured),
        "batch_norm": rate_rows(measured["rates"]),
        "families": [family_row(row) for row in measured["families"]],
        "designs": measured["designs"],
    }
    runs = [plainly(run) for run in (*measured["degradation"], *measured["shortcuts"], *measured["rates"])]
    return Outcome(
        numbers=main_numbers(measured),
        finding=finding(measured),
        sections=_sections(measured, tables),
        measured=without_gaps(
            {"settings": measured["settings"], **tables, "profiles": profiles(measured["start"]), "runs": runs}
        ),
        key_figure="start",
    )


def start_figure(measured: dict[str, Any]) -> Figure:
    """The gradient layer by layer before training: shortcuts or none, BatchNorm or none."""
    settings = measured["settings"]
    panels = [
        Panel(
            title=spelled(kind),
            series=[
                Series(label=f"{depth} layers", x=list(range(len(layers))), y=layers)
                for depth, layers in depths.items()
            ],
            x_label="layers between here and the last convolution",
            y_label="‖∂L/∂x‖, last convolution = 1",
            log_y=True,
        )
        for kind, depths in profiles(measured["start"]).items()
    ]
    return curves_figure(
        panels,
        name="start",
        title="The gradient on its way down, before any step",
        caption=(
            f"Norm of the gradient at each layer's input as a multiple of that at the last convolution, on "
            f"{settings['start_batch']} images of {settings['size']} px, published width; geometric mean of "
            f"{settings['start_seeds']} seeds. Right is towards the image. A straight line means exponential growth or "
            "decay; all panels have one scale."
        ),
        ordered=True,
        share_y=True,
        columns=2,
        legend="above",
    )


def during_figure(measured: dict[str, Any]) -> Figure:
    """The gradient layer by layer while the deepest nets that both kinds have are trained."""
    runs = [run for run in of(measured["degradation"], seed=0) if not run["diverged"]]
    shared = [run["depth"] for run in of(runs, kind="plain") if of(runs, kind="residual", depth=run["depth"])]
    wanted = [depth for depth in shared if depth <= 56] or shared
    panels = []
    for what, words in (("inputs", "‖∂L/∂x‖ of the layer's input"), ("weights", "‖∂L/∂W‖ of the layer's weights")):
        for kind in ("plain", "residual"):
            found = of(runs, kind=kind, depth=wanted[-1]) if wanted else []
            stages = {0: found[0]["start"], **found[0]["during"]} if found else {}
            panels.append(
                Panel(
                    title=f"{kind}, {wanted[-1] if wanted else '–'} layers",
                    series=[
                        Series(
                            label=f"after step {step}" if step else "before training",
                            x=list(range(2, len(taken[what]))),
                            y=_drawn(taken[what][1:-1]),
                        )
                        for step, taken in stages.items()
                    ],
                    x_label="layer, from the image to the loss",
                    y_label=words,
                    log_y=True,
                )
            )
    return curves_figure(
        panels,
        name="during",
        title="The gradient at each layer while training",
        caption=(
            f"Always on the same {measured['settings']['start_batch']} training images, with their own statistics in "
            "BatchNorm; step 0 is before training. Above the gradient's signal, below what the optimiser gets."
        ),
        ordered=True,
        columns=2,
        legend="above",
    )


def _drawn(numbers: Sequence[float | None]) -> list[float]:
    return [math.nan if number is None else number for number in numbers]


def gains_figure(gains: Rows, depth: int) -> Figure:
    """The first layer's gradient against the size of the initial weights, with and without BatchNorm."""
    panels = []
    for title, kinds in (
        ("no BatchNorm", ("plain, no BatchNorm", "residual, no BatchNorm")),
        ("BatchNorm", ("plain", "residual")),
    ):
        lines = []
        for kind in kinds:
            rows = of(gains, kind=kind)
            x = [row["gain"] for row in rows]
            lines.append(Series(label=kind.split(",")[0], x=x, y=_drawn([row["first_weights"] for row in rows])))
        panels.append(
            Panel(
                title=title,
                series=lines,
                x_label="factor on He's initial weights",
                y_label="‖∂L/∂W‖ of the first convolution",
                log_x=True,
                log_y=True,
                references=(Reference(value=1.0, label="He's weights", axis="x"),),
            )
        )
    return curves_figure(
        panels,
        name="gains",
        title=f"The gradient at the first layer when weights begin too small or too large, {depth} layers",
        caption="Before any step. Points that are missing overflowed. The scales of the two panels differ.",
        columns=2,
    )


def degradation_figure(rows: Rows, settings: dict[str, Any]) -> Figure:
    """Training and test error against depth."""
    chance = 100 * (1 - 1 / settings["classes"])
    panels = [
        Panel(
            title=f"{words} images",
            series=[
                Series(
                    label=kind,
                    x=[row["layers"] for row in of(rows, network=kind)],
                    y=[row[f"{part}_error"] for row in of(rows, network=kind)],
                    low=[row[f"{part}_smallest"] for row in of(rows, network=kind)],
                    high=[row[f"{part}_largest"] for row in of(rows, network=kind)],
                )
                for kind in ("plain", "residual")
            ],
            x_label="layers",
            y_label="error (%)",
            log_x=True,
            references=(Reference(value=chance, label="chance"),),
        )
        for part, words in (("train", "training"), ("test", "test"))
    ]
    return curves_figure(
        panels,
        name="degradation",
        title="Error against depth",
        caption=(
            f"Mean over seeds; whiskers from the smallest to the largest where there are several. {settings['data']}, "
            f"{settings['train']:,} images of {settings['size']} px, width factor {settings['width']:g}, "
            f"{settings['steps']:,} steps for every net."
        ),
        share_y=True,
        columns=2,
    )


def _grid(caption: str, rows: Rows, heads: Sequence[tuple[str, str, str]]) -> Table:
    """A table of flat records; a head is a key, its title, and how its values are written."""
    columns = [Column(title=title, number=how != "text") for _, title, how in heads]
    return table(caption, columns, [[WRITTEN[how](row.get(key)) for key, _, how in heads] for row in rows])


def _brief(value: float | None) -> str:
    return "overflow" if value is None or math.isinf(value) else brief(value)


def _percent(value: float | None) -> str:
    return "–" if value is None or math.isnan(value) else f"{value:.1f}\u00a0%"


WRITTEN: dict[str, Callable[[Any], str]] = {
    "text": lambda value: "–" if value is None else str(value),
    "count": lambda value: f"{value:,}",
    "brief": _brief,
    "factor": lambda value: "overflow" if math.isinf(value) else f"{value:.3f}",
    "percent": _percent,
    "share": lambda value: _percent(100 * value),
    "tiny": lambda value: "–" if value is None or math.isnan(value) else brief(value),
    "giga": lambda value: f"{value:.3f}",
    "rate": lambda value: f"{value:g}",
}
"""How values are written, by name."""


def _sections(measured: dict[str, Any], tables: dict[str, Any]) -> tuple[Section, ...]:
    settings = measured["settings"]
    parts: list[tuple[str, str, list[Block]]] = [
        ("The gradient before training", "start", _start_blocks(measured, tables)),
        ("The gradient during training", "during", _during_blocks(measured, tables)),
        ("One block: ∂L/∂x = ∂L/∂y·(1 + ∂F/∂x)", "block", _identity_blocks(tables)),
        (
            "Weights that begin too large",
            "gains",
            [
                Figures((gains_figure(measured["gains"], settings["gain_depth"]),)),
                Paragraph(
                    "Without BatchNorm the gradient goes as a power of the factor, with the depth in the exponent. "
                    "BatchNorm undoes the factor at every layer: the signal ∂L/∂x stays as it is, and ∂L/∂W shrinks as "
                    "one over the factor."
                ),
            ],
        ),
        ("Error against depth", "degradation", _degradation_blocks(measured, tables)),
        ("What goes around: identity or projection", "shortcuts", _shortcut_blocks(measured, tables)),
        ("BatchNorm on and off", "batch-norm", _rate_blocks(measured, tables)),
        ("ResNet, ResNeXt, DenseNet in numbers", "families", _family_blocks(tables)),
    ]
    return tuple(Section(title=title, name=name, blocks=tuple(blocks)) for title, name, blocks in parts)


def _start_blocks(measured: dict[str, Any], tables: dict[str, Any]) -> list[Block]:
    blocks: list[Block] = [Paragraph(" ".join(start_words(measured))), Figures((start_figure(measured),))]
    heads = [
        ("network", "network", "text"), ("layers", "layers", "count"),
        ("growth", "first block's over last block's", "brief"), ("smallest", "smallest", "brief"),
        ("largest", "largest", "brief"), ("per_layer", "per layer", "factor"), ("loss", "loss", "brief"),
    ]  # fmt: skip
    blocks.append(_grid("Growth of ‖∂L/∂x‖ from the last convolution to the first block", tables["start"], heads))
    padding = tables["padding"]
    if len(padding) == 2:
        told = "; ".join(
            f"{row['padding']} × {row['per_layer']:.3f} per layer (expected {row['expected_per_layer']:.3f})"
            for row in padding
        )
        blocks.append(
            Paragraph(
                f"Why the plain net without BatchNorm fades although He's weights should keep the size: with {told}. "
                "The zeros around s × s maps cost 1 − 2/(3s) of the norm at each layer."
            )
        )
    return blocks


def _during_blocks(measured: dict[str, Any], tables: dict[str, Any]) -> list[Block]:
    heads = [
        ("network", "network", "text"), ("layers", "layers", "count"), ("step", "after step", "count"),
        ("growth", "first block's over last block's ‖∂L/∂x‖", "brief"),
        ("first_weights", "first ‖∂L/∂W‖", "brief"), ("last_weights", "last ‖∂L/∂W‖", "brief"),
        ("loss", "loss", "brief"),
    ]  # fmt: skip
    return [Figures((during_figure(measured),)), _grid("All trained nets, first seed", tables["during"], heads)]


def _identity_blocks(tables: dict[str, Any]) -> list[Block]:
    checks = [
        ("block", "block", "text"), ("largest_entry", "largest |∂L/∂x|", "brief"),
        ("formula_off_by", "formula off by", "tiny"), ("differences_off_by", "finite differences off by", "tiny"),
        ("without_mask_off_by", "formula without mask off by", "tiny"),
        ("shortcut_from_identity", "∂shortcut/∂x off the identity by", "tiny"), ("open_share", "let through", "share"),
    ]  # fmt: skip
    ways = [
        ("layers", "layers", "count"), ("when", "when", "text"), ("stage", "stage", "text"),
        ("identity_blocks", "identity blocks", "count"), ("open_in_a_block", "open in a block (mean)", "share"),
        ("open_in_all", "open in all of them", "share"), ("share_by_shortcut", "gradient by the shortcut", "share"),
    ]  # fmt: skip
    blocks: list[Block] = [
        _grid(
            "Largest differences from autograd's ∂L/∂x, float64. The formula is (mask ∘ ∂L/∂y)·(∂shortcut/∂x + ∂F/∂x).",
            tables["blocks"],
            checks,
        ),
        Paragraph(
            "A ReLU after the addition multiplies ∂L/∂y by a mask, 1 where x + F(x) > 0, before it splits into the two "
            "ways: the 1 of the formula holds only where the mask is open. Blocks in a row multiply their masks."
        ),
    ]
    if tables["ways"]:
        blocks.append(
            _grid("What the masks of a residual net let through, and by which way it comes", tables["ways"], ways)
        )
    return blocks


def _degradation_blocks(measured: dict[str, Any], tables: dict[str, Any]) -> list[Block]:
    heads = [
        ("network", "network", "text"), ("layers", "layers", "count"), ("parameters", "parameters", "count"),
        ("seeds", "seeds", "count"), ("train_error", "training error", "percent"),
        ("test_error", "test error", "percent"), ("test_smallest", "smallest", "percent"),
        ("test_largest", "largest", "percent"),
    ]  # fmt: skip
    width, known = measured["settings"]["width"], ", ".join(f"{d}: {m}" for d, m in PUBLISHED_MILLIONS.items())
    return [
        Paragraph(depth_words(measured).removesuffix(hurt_words(measured)).strip()),
        Figures((degradation_figure(tables["degradation"], measured["settings"]),)),
        Paragraph(hurt_words(measured)),
        _grid("Error against depth", tables["degradation"], heads),
        Paragraph(
            f"At width factor {width:g} the nets have fewer parameters than published (in millions at 1: {known};"
            f" {PAPER}, table 6). In that paper, after 64,000 steps, test error falls from 20 to 110 layers and rises "
            f"again at 1,202 (7.93 %); {UNCHECKED}."
        ),
    ]


def _shortcut_blocks(measured: dict[str, Any], tables: dict[str, Any]) -> list[Block]:
    settings = measured["settings"]
    heads = [
        ("network", "network", "text"), ("parameters", "parameters", "count"),
        ("train_error", "training error", "percent"), ("test_error", "test error", "percent"),
        ("test_smallest", "smallest", "percent"), ("test_largest", "largest", "percent"),
        ("growth_of_the_deep_net", f"gradient's growth at the start, {settings['gain_depth']} layers", "brief"),
    ]  # fmt: skip
    words = side_words(measured).removesuffix(norm_words(measured)).strip()
    return [Paragraph(words), _grid(f"Shortcuts, nets of {settings['side_depth']} layers", tables["shortcuts"], heads)]


def _rate_blocks(measured: dict[str, Any], tables: dict[str, Any]) -> list[Block]:
    heads = [
        ("network", "network", "text"), ("learning_rate", "learning rate", "rate"),
        ("held_out_error", "held-out error", "percent"), ("train_error", "training error", "percent"),
        ("test_error", "test error", "percent"), ("outcome", "", "text"),
    ]  # fmt: skip
    caption = (
        f"Nets of {measured['settings']['side_depth']} layers, one seed, a fifth of the training images held out; the "
        "rate with the fewest errors on these is chosen"
    )
    return [Paragraph(norm_words(measured)), _grid(caption, tables["batch_norm"], heads)]


def _family_blocks(tables: dict[str, Any]) -> list[Block]:
    heads = [
        ("network", "network", "text"), ("block", "block", "text"), ("layers", "layers with weights", "count"),
        ("parameters", "parameters", "count"), ("gmacs", "GMACs at 224 × 224", "giga"),
        ("published_top1_error", "published top-1 error, %", "text"),
    ]  # fmt: skip
    designs = [
        ("design", "block", "text"), ("channels_in", "channels in", "count"), ("parameters", "parameters", "count"),
        ("macs", "MACs at 56 × 56", "count"),
    ]  # fmt: skip
    basic, wide, neck = tables["designs"][:3]
    return [
        _grid(
            "Counted from layer tables, classifier included, projections not counted as layers; errors on ImageNet's"
            " validation images with ten crops as published (He et al. 2016, tables 2 and 3; Xie et al. 2017, table 3; "
            "Huang et al. 2017, table 3), read in transcripts",
            tables["families"],
            heads,
        ),
        _grid("One block of each design", tables["designs"], designs),
        Paragraph(
            f"A bottleneck works on {neck['channels_in']} channels with {neck['macs'] / basic['macs']:.2f} times the "
            f"MACs of a basic block on {basic['channels_in']}; a basic block on {wide['channels_in']} would cost "
            f"{wide['macs'] / basic['macs']:.0f} times as many."
        ),
    ]
