"""GoogLeNet's anatomy in the report of its study: 3×3 against 5×5, and what the 1×1 reductions save; all counted."""

from collections.abc import Mapping
from typing import Any

from hilum.intervals import numeral
from hilum.models.anatomy import network_table
from hilum.models.inception_cost import inception_costs
from hilum.models.zoo import published_network
from hilum.reports.charts import Bar, bars_figure
from hilum.reports.page import Details, Figures, Paragraph, Section
from hilum.reports.tables import Column, table

BUG = "github.com/pytorch/vision/issues/906"
"""Where torchvision's 3×3 is explained; read there."""


def interval_text(difference: Mapping[str, Any]) -> str:
    """Bounds of a paired difference, in points."""
    if difference["low"] is None:
        return "one pair: no interval"
    return f"{numeral(difference['low'], '+.1f')} … {numeral(difference['high'], '+.1f')}"


def kernel_rows() -> list[dict[str, Any]]:
    """Parameters and multiply-accumulates of GoogLeNet with 3×3 and with 5×5 kernels, counted from the networks."""
    found = []
    for name, kernel, with_auxiliary in (
        ("googlenet", "3×3 (torchvision)", {"aux_logits": True}),
        ("googlenet_5x5", "5×5 (the paper)", {"auxiliary": True}),
    ):
        plain = network_table(name)
        found.append(
            {
                "network": name,
                "third branch": kernel,
                "parameters": plain.parameters,
                "with both auxiliary classifiers": parameters_of(name, **with_auxiliary),
                "million MACs at 224 px": round(plain.macs / 1e6, 1),
            }
        )
    return found


def parameters_of(name: str, **options: Any) -> int:
    """Parameters of a network of the zoo, its auxiliary classifiers included."""
    return sum(value.numel() for value in published_network(name, **options).parameters())


def kernels_section(measured: Mapping[str, Any]) -> Section:
    """What torchvision's GoogLeNet has where the paper has 5×5, and what that changed here."""
    rows = kernel_rows()
    columns = [Column(title=key, number=i > 1) for i, key in enumerate(rows[0])]
    cells = [[f"{value:,}" if not isinstance(value, str) else value for value in row.values()] for row in rows]
    fewer = rows[1]["parameters"] - rows[0]["parameters"]
    three = next(row for row in measured["variants"] if row["variant"] == "3x3")
    return Section(
        title="3×3 where the paper has 5×5",
        name="kernels",
        blocks=(
            Paragraph(
                f"torchvision's GoogLeNet has 3×3 kernels in the third branch of every inception block, where the "
                f"paper has 5×5: {fewer:,} parameters less. Its weights were ported from TensorFlow, which has 3×3 "
                f"there, and a change would need new weights ({BUG}). So a result of torchvision's GoogLeNet is one of "
                "that network, not of the paper's. It also has BatchNorm, which the paper's network of 2014 had not."
            ),
            table("Counted from the networks, 1,000 classes", columns, cells),
            Paragraph(
                f"Measured here, 3×3 minus 5×5 on test images: {numeral(three['difference']['mean'], '+.1f')} points "
                f"({interval_text(three['difference'])}, {len(three['gaps'])} pairs)."
            ),
        ),
    )


def reduction_rows() -> list[dict[str, Any]]:
    """What the 1×1 reductions save in each inception block of the paper's network at 224 px."""
    return [
        {
            "block": cost.block.removeprefix("inception"),
            "channels in": cost.channels_in,
            "maps": f"{cost.side} × {cost.side}",
            "million MACs": round(cost.macs / 1e6, 1),
            "without reductions": round(cost.macs_naive / 1e6, 1),
            "ratio": round(cost.macs_naive / cost.macs, 2),
            "channels out": cost.channels_out,
            "channels out without": cost.channels_out_naive,
        }
        for cost in inception_costs("googlenet_5x5")
    ]


def inception_section() -> Section:
    """The arithmetic of the reductions."""
    rows = reduction_rows()
    figure = bars_figure(
        [
            Bar(label=row["block"], series=series, value=row[key], note=f"{row[key]:,.0f}")
            for row in rows
            for series, key in (("with 1×1 reductions", "million MACs"), ("without", "without reductions"))
        ],
        name="reductions",
        title="What the 1×1 reductions save in each inception block",
        caption="Multiply-accumulates for one image of 224 × 224, counted from googlenet_5x5; without: the 3×3 and "
        "5×5 kernels read all channels of the same input.",
        x_label="million multiply-accumulates (MACs)",
    )
    columns = [Column(title=key, number=i != 2) for i, key in enumerate(rows[0])]
    cells = [[f"{value:,}" if not isinstance(value, str) else value for value in row.values()] for row in rows]
    total = sum(row["without reductions"] for row in rows) / sum(row["million MACs"] for row in rows)
    return Section(
        title="Inception blocks, in arithmetic",
        name="inception",
        blocks=(
            Paragraph(
                f"Over the nine blocks the reductions save a factor of {total:.1f} on the same inputs; without them "
                "each block would also hand on more channels than it does, and the next would cost more still."
            ),
            Figures((figure,)),
            Details(summary="Numbers", blocks=(table("Each inception block at 224 × 224", columns, cells),)),
        ),
    )
