"""``hilum models``: the zoo, and the anatomy of each network."""

from textwrap import wrap
from typing import TYPE_CHECKING, Annotated

import typer

from hilum.cli.terminal import JsonOption, finish, table

if TYPE_CHECKING:
    from hilum.models.anatomy import ComparisonRow, NetworkTable

app = typer.Typer(
    name="models", help="The zoo of networks, and the anatomy of each.", no_args_is_help=True, rich_markup_mode=None
)

SizeOption = Annotated[int | None, typer.Option(min=1, help="Image height and width in pixels.")]

COLUMNS = 100
"""Widest line of the list of networks."""

# A Sequential without layers is a plain shortcut.
QUIET_KINDS = {"ReLU", "ReLU6", "SiLU", "Sigmoid", "Dropout", "StochasticDepth", "Identity", "Sequential", "Flatten"}
"""Layers without weights that keep the values' number: left out of the table unless asked for."""


@app.command("list")
def list_models(as_json: JsonOption = False) -> None:
    """List the networks: year, input, layers of the encoder, where its last block begins, weights by name."""
    from hilum.models.weights.registry import NAMED_WEIGHTS
    from hilum.models.zoo import ARCHITECTURES, names

    networks = {name: ARCHITECTURES[name] for name in names()}
    weights = {name: [source for source, backbone in NAMED_WEIGHTS if backbone == name] for name in networks}
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
        for name, row in networks.items()
    ]
    published = list(dict.fromkeys(row.citation for row in networks.values()))
    cells = [
        (
            name,
            row.year,
            f"{row.in_channels}×{row.size}×{row.size}",
            row.channels,
            row.last_block,
            ", ".join(weights[name]) or "none",
            f"[{published.index(row.citation) + 1}]",
        )
        for name, row in networks.items()
    ]
    header = ("name", "year", "input", "channels", "last block from", "weights", "published in")
    papers = [line for number, one in enumerate(published, start=1) for line in _paper(number, one)]
    finish({"models": rows}, as_json=as_json, lines=[*table(header, cells), "", *papers])


def _paper(number: int, citation: str) -> list[str]:
    """A citation below the table, in lines of at most :data:`COLUMNS`."""
    return wrap(
        f"[{number}]".ljust(5) + citation,
        COLUMNS,
        subsequent_indent=" " * 5,
        break_long_words=False,
        break_on_hyphens=False,
    )


@app.command("show")
def show_model(
    name: Annotated[str, typer.Argument(help="Name of a network; hilum models list shows them.")],
    size: SizeOption = None,
    every: Annotated[bool, typer.Option("--all", help="Show activations and dropout too.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show a network's layers: output shape, parameters, multiply-accumulates (MACs), receptive field, memory."""
    from hilum.config import to_mapping
    from hilum.models.anatomy import compare, network_table
    from hilum.models.zoo import architecture

    row, (facts,) = architecture(name), compare([name], size=size)
    anatomy = network_table(name, size=size)
    last, encoder = anatomy.part(row.layers[row.layers.index(row.last_block) :]), anatomy.part(row.layers)
    summary = {
        "name": name,
        "citation": row.citation,
        "input": list(anatomy.input_shape),
        "parameters": anatomy.parameters,
        "macs": anatomy.macs,
        "connections": anatomy.connections,
        "depth": facts.depth,
        "activation_bytes": facts.activation_bytes,
        "kept_bytes": facts.kept_bytes,
        "training_memory": to_mapping(facts.training),
        "encoder": {"parameters": encoder[0], "macs": encoder[1]},
        "last_block": {"from": row.last_block, "parameters": last[0], "macs": last[1]},
        "layers": to_mapping(anatomy.rows),
    }
    width = anatomy.input_shape[-1]
    lines = [
        "",
        f"{name}: {anatomy.parameters:,} parameters, {anatomy.macs / 1e6:,.1f} million MACs at {width}×{width}, "
        f"{anatomy.connections:,} connections (uses of a weight or bias), {facts.depth} layers deep.",
        f"Encoder: {encoder[0]:,} parameters, {encoder[1] / 1e6:,.1f} million MACs; its last block, from "
        f"{row.last_block}: {last[0]:,} and {last[1] / 1e6:,.1f} million.",
        *_memory_lines(facts),
        f"{row.citation}.",
    ]
    finish(summary, as_json=as_json, lines=[*_layer_lines(anatomy, every), *lines])


@app.command("compare")
def compare_models(
    names: Annotated[list[str], typer.Argument(metavar="NAME", help="Networks; hilum models list shows them.")],
    size: SizeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Compare networks side by side: depth, parameters, multiply-accumulates (MACs), memory, receptive field."""
    from hilum.config import to_mapping
    from hilum.models.anatomy import compare
    from hilum.models.memory import formula

    compared = compare(names, size=size)
    columns = [_facts(row) for row in compared]
    cells = [[fact, *(column[fact] for column in columns)] for fact in columns[0]]
    notes = [
        "",
        "Depth: layers with weights on the longest way, norms aside. Classifier: all behind the last feature map, of",
        "which a place has that receptive field; + all: squeeze-and-excitation sees the whole image too.",
        "Memory in fp32, 1 MB = 10⁶ bytes.",
        f"Training, estimated, with SGD and momentum: {formula('momentum')}.",
        "",
        *(f"{row.name}: {row.citation}." for row in compared),
    ]
    summary = {"models": to_mapping(compared), "training_memory_formula": formula("momentum")}
    finish(summary, as_json=as_json, lines=[*table(["", *(row.name for row in compared)], cells), *notes])


def _facts(row: "ComparisonRow") -> dict[str, object]:
    facts: dict[str, object] = {
        "published": row.year,
        "input": "×".join(map(str, row.input_shape)),
        "depth, layers": row.depth,
        "layers with weights": row.weighted_layers,
        "parameters": f"{row.parameters:,}",
        "in the classifier": f"{row.classifier_parameters:,}",
        "share of classifier": f"{row.classifier_share:.1%}",
        "MACs, million": f"{row.macs / 1e6:,.1f}",
        "last feature map": "×".join(map(str, row.feature_map)),
        "receptive field, px": _field(row.receptive_field, row.local_field),
        "weights": _size(row.training[0].weights),
        "all outputs, one image": _size(row.activation_bytes),
        "kept for backward, one image": _size(row.kept_bytes),
    }
    return facts | {f"training, batch of {memory.batch}": _size(memory.total) for memory in row.training}


def _memory_lines(facts: "ComparisonRow") -> list[str]:
    from hilum.models.memory import formula

    batches = ", ".join(f"{_size(memory.total)} for a batch of {memory.batch}" for memory in facts.training)
    return [
        f"Memory, fp32, 1 MB = 10⁶ bytes: weights {_size(facts.training[0].weights)}; outputs of all layers, "
        f"activations among them, {_size(facts.activation_bytes)} an image; kept for the backward pass "
        f"{_size(facts.kept_bytes)} an image.",
        f"Training with SGD and momentum, estimated: {batches}; {formula('momentum')}.",
    ]


def _size(count: int) -> str:
    """Bytes in decimal units, three digits or so."""
    for unit, amount in (("GB", 1e9), ("MB", 1e6)):
        if count >= amount:
            return f"{count / amount:,.{2 if count < 10 * amount else 1}f} {unit}"
    return f"{count / 1e3:,.1f} kB" if count >= 1e3 else f"{count} B"


def _field(whole: int | None, local: int | None) -> object:
    if whole is None and local is not None:
        return f"{local} + all"
    return whole or "all"


def _layer_lines(anatomy: "NetworkTable", every: bool) -> list[str]:
    cells = [
        (
            row.name,
            row.kind,
            "×".join(map(str, row.shape)),
            f"{row.parameters:,}",
            f"{row.macs:,}",
            _field(row.receptive_field, row.local_field),
            _size(row.activation_bytes),
        )
        for row in anatomy.rows
        if every or row.kind not in QUIET_KINDS
    ]
    return table(("layer", "kind", "output", "parameters", "MACs", "receptive field, px", "memory"), cells)
