"""``hilum models``: the zoo, and the anatomy of each network."""

from typing import TYPE_CHECKING, Annotated

import typer

from hilum.cli.terminal import JsonOption, finish, table

if TYPE_CHECKING:
    from hilum.models.anatomy import NetworkTable

app = typer.Typer(
    name="models", help="The zoo of networks, and the anatomy of each.", no_args_is_help=True, rich_markup_mode=None
)

# A Sequential without layers is a plain shortcut.
QUIET_KINDS = {"ReLU", "ReLU6", "SiLU", "Sigmoid", "Dropout", "StochasticDepth", "Identity", "Sequential", "Flatten"}
"""Layers without weights that keep the values' number: left out of the table unless asked for."""


@app.command("list")
def list_models(as_json: JsonOption = False) -> None:
    """List the networks: year, input, layers of the encoder, where its last block begins, weights by name."""
    from hilum.models.weights.registry import NAMED_WEIGHTS
    from hilum.models.zoo import ARCHITECTURES

    weights = {name: [source for source, backbone in NAMED_WEIGHTS if backbone == name] for name in ARCHITECTURES}
    rows = [
        {
            "name": name,
            "year": row.year,
            "input": [row.in_channels, row.size, row.size],
            "channels": row.channels,
            "last_block": row.last_block,
            "weights": weights[name],
            "citation": row.citation,
        }
        for name, row in ARCHITECTURES.items()
    ]
    cells = [
        (
            name,
            row.year,
            f"{row.in_channels}×{row.size}×{row.size}",
            row.channels,
            row.last_block,
            ", ".join(weights[name]) or "none",
            row.citation,
        )
        for name, row in ARCHITECTURES.items()
    ]
    header = ("name", "year", "input", "channels", "last block from", "weights", "published in")
    finish({"models": rows}, as_json=as_json, lines=table(header, cells))


@app.command("show")
def show_model(
    name: Annotated[str, typer.Argument(help="Name of a network; hilum models list shows them.")],
    size: Annotated[int | None, typer.Option(min=1, help="Image height and width in pixels.")] = None,
    every: Annotated[bool, typer.Option("--all", help="Show activations and dropout too.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show a network's layers: output shape, parameters, multiply-accumulates (MACs), receptive field."""
    from hilum.config import to_mapping
    from hilum.models.anatomy import activation_bytes, network_table
    from hilum.models.zoo import architecture

    row = architecture(name)
    anatomy = network_table(name, size=size)
    last, encoder = anatomy.part(row.layers[row.layers.index(row.last_block) :]), anatomy.part(row.layers)
    summary = {
        "name": name,
        "citation": row.citation,
        "input": list(anatomy.input_shape),
        "parameters": anatomy.parameters,
        "macs": anatomy.macs,
        "activation_bytes": activation_bytes(anatomy),
        "encoder": {"parameters": encoder[0], "macs": encoder[1]},
        "last_block": {"from": row.last_block, "parameters": last[0], "macs": last[1]},
        "layers": to_mapping(anatomy.rows),
    }
    width = anatomy.input_shape[-1]
    facts = [
        "",
        f"{name}: {anatomy.parameters:,} parameters, {anatomy.macs / 1e6:,.1f} million MACs at {width}×{width}.",
        f"Encoder: {encoder[0]:,} parameters, {encoder[1] / 1e6:,.1f} million MACs; its last block, from "
        f"{row.last_block}: {last[0]:,} and {last[1] / 1e6:,.1f} million.",
        f"Outputs of all layers, one image, fp32: {activation_bytes(anatomy) / 1e6:.1f} MB. {row.citation}.",
    ]
    finish(summary, as_json=as_json, lines=[*_layer_lines(anatomy, every), *facts])


def _layer_lines(anatomy: "NetworkTable", every: bool) -> list[str]:
    cells = [
        (
            row.name,
            row.kind,
            "×".join(map(str, row.shape)),
            f"{row.parameters:,}",
            f"{row.macs:,}",
            row.receptive_field or "all",
        )
        for row in anatomy.rows
        if every or row.kind not in QUIET_KINDS
    ]
    return table(("layer", "kind", "output", "parameters", "MACs", "receptive field, px"), cells)
