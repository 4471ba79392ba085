"""What the study of filters found: its main numbers, and a paragraph that follows from them."""

from collections.abc import Mapping
from typing import Any

from hilum.studies.outcome import Number, share

ARAUJO = "Araujo, Norris, Sim 2019, doi:10.23915/distill.00021, and the table of its library"
WORDS = {"edge": "edges", "blob": "blobs", "colour": "colours", "unspecific": "nothing in particular", "dead": "dead"}
"""Kinds of filters in the plural."""
REFERENCE = {
    "trained": "before training",
    "loaded": "with random weights",
    "random": "in another random draw",
}
"""What the filters are compared with."""
DRAW = {"trained": "where they began", "loaded": "a random draw", "random": "the other draw"}
"""The same, as a place."""


def main_numbers(measured: Mapping[str, Any]) -> tuple[Number, ...]:
    """The main numbers."""
    kinds = {row["kind"]: row for row in measured["kinds"]}
    many, reference = measured["first_layer_window"][0], REFERENCE[measured["origin"]]
    first = measured["filter_layers"][0]
    found = [
        Number(
            name=f"first-layer filters that measure as {WORDS[kind]}",
            value=row["share_%"],
            spread=f"{row['filters']} of {many}; {reference}: {row['before']}",
            unit="%",
            digits=1,
        )
        for kind, row in kinds.items()
        if kind != "dead" or row["filters"]
    ]
    found += [
        Number(
            name="share of the frequency plane that a first-layer filter occupies, mean",
            value=100 * first["spread"],
            spread=f"{many} filters; {reference}: {100 * first['spread_before']:.1f} %",
            unit="%",
            digits=1,
        ),
        Number(
            name=f"distance of the first layer from {DRAW[measured['origin']]}, in lengths of that",
            value=first["distance"],
            spread=f"{many} filters",
            published="√2 = 1.41 for two independent draws of one length",
            source="arithmetic",
        ),
    ]
    if measured["origin"] == "trained":
        found.append(
            Number(
                name="energy of the first layer that is still what it began with",
                value=first["leftover_%"],
                spread=f"{many} filters",
                unit="%",
                digits=1,
            )
        )
    return (*found, *_answer_numbers(measured), *_training_numbers(measured["training"]))


def _answer_numbers(measured: Mapping[str, Any]) -> list[Number]:
    last = measured["answer_layers"][-1]
    alexnet = measured["network"] == "alexnet"
    found = [
        Number(
            name=f"answers of {row['layer']} that are exactly 0",
            value=row["silent_%"],
            spread=f"{measured['watched']} test images; {row['dead_maps']} of {row['maps']} maps never change",
            unit="%",
            digits=1,
        )
        for row in (measured["answer_layers"][0], last)
    ]
    if last["field_px"] is not None:
        found.append(
            Number(
                name=f"receptive field of {last['layer']}",
                value=last["field_px"],
                spread=f"every {last['every_px']} px",
                unit="px",
                digits=0,
                published="195 px behind the last pooling, which adds 2 · 16" if alexnet else "",
                source=ARAUJO if alexnet else "",
            )
        )
    return found


def _training_numbers(training: Mapping[str, Any] | None) -> list[Number]:
    if training is None:
        return []
    name = f"test accuracy after {training['steps']:,} steps, {training['classes']} classes"
    largest = f"{training['chance_%']:.1f} % by always naming the largest class"
    return [
        share(name, training["right"], training["test"], published=largest, source="the test images' classes"),
        Number(name="training time", value=training["training_s"], unit="s", digits=0, timing=True),
    ]


def finding(measured: Mapping[str, Any]) -> str:
    """What was found, in words that follow from the numbers."""
    sentences = [
        *_trained_words(measured),
        _kinds_words(measured),
        _verdict(measured),
        *_leftover_words(measured),
        _spread_words(measured),
        *_edges_words(measured),
        *_depth_words(measured),
        *_answers_words(measured),
    ]
    return " ".join(sentences)


def _trained_words(measured: Mapping[str, Any]) -> list[str]:
    training = measured["training"]
    if training is None:
        return []
    accuracy = 100 * training["right"] / training["test"]
    able = "" if accuracy > training["chance_%"] else ", which is no better"
    return [
        f"{measured['label']}, {measured['weights']}, names the class of {accuracy:.1f} % of the test images "
        f"(always naming the largest class: {training['chance_%']:.1f} %{able})."
    ]


def _kinds_words(measured: Mapping[str, Any]) -> str:
    kinds = {row["kind"]: row for row in measured["kinds"]}
    many, *window = measured["first_layer_window"]

    def counts(key: str) -> str:
        return ", ".join(f"{kinds[kind][key]} as {WORDS[kind]}" for kind in ("edge", "blob", "colour"))

    dead = f" ({kinds['dead']['filters']} are dead)" if kinds["dead"]["filters"] else ""
    return (
        f"Of its {many} first-layer filters of {' × '.join(map(str, window))} weights {counts('filters')} and "
        f"{kinds['unspecific']['filters']} as nothing in particular measure{dead}; {REFERENCE[measured['origin']]} "
        f"{kinds['edge']['before']}, {kinds['blob']['before']}, {kinds['colour']['before']} and "
        f"{kinds['unspecific']['before']}."
    )


def _verdict(measured: Mapping[str, Any]) -> str:
    """Whether the first layer has learned something that can be measured on its filters."""
    first = measured["filter_layers"][0]
    gain = first["specific_%"] - first["specific_before_%"]
    if measured["origin"] == "random":
        return "Both are random draws: what differs between them is chance."
    if gain >= 50:
        return "So most of the first layer's filters are detectors that were learned."
    if gain >= 10:
        return (
            f"So {gain:.0f} % of the first layer's filters have become detectors; the others can't be told from chance."
        )
    if measured["origin"] == "trained":
        return (
            "So this training taught the first layer next to nothing that shows in its filters: what the network knows "
            "rests on filters that can hardly be told from random ones."
        )
    return "So by this measure the loaded filters can hardly be told from random ones."


def _leftover_words(measured: Mapping[str, Any]) -> list[str]:
    """How much of the filters is noise that training has not overcome: it looks coloured by two thirds."""
    if measured["origin"] != "trained":
        return []
    share = measured["filter_layers"][0]["leftover_%"]
    words = f"{share:.0f} % of their energy is still what they began with"
    if share >= 50:
        return [
            f"But {words}: random weights, two thirds of which count as colour. What was learned is laid thinly over "
            "them."
        ]
    return [f"{words[:1].upper()}{words[1:]}; the rest was learned."]


def _spread_words(measured: Mapping[str, Any]) -> str:
    first = measured["filter_layers"][0]
    after, before = 100 * first["spread"], 100 * first["spread_before"]
    change = "smoother" if after < before - 1 else "rougher" if after > before + 1 else "neither smoother nor rougher"
    return (
        f"A filter's power covers {after:.0f} % of the frequency plane on average against {before:.0f} % "
        f"{REFERENCE[measured['origin']]}: the filters are {change}; they lie {first['distance']:.1f} of their first "
        f"lengths away from {DRAW[measured['origin']]}."
    )


def _edges_words(measured: Mapping[str, Any]) -> list[str]:
    edges, medians = measured["edges"], measured["median_frequency"]
    found = []
    if edges["edges"] >= 8:
        found.append(
            f"Of the {edges['edges']} edges {edges['along_axes']} lie within 22.5° of horizontal or vertical (by "
            "chance half would)."
        )
    if medians["edge"] is not None and medians["colour"] is not None:
        than = "coarser than" if medians["colour"] < medians["edge"] else "not coarser than"
        found.append(
            f"Colour filters pass structure {than} edges do (medians {medians['colour']:.3f} and {medians['edge']:.3f} "
            "cycles a pixel)."
        )
    return found


def _depth_words(measured: Mapping[str, Any]) -> list[str]:
    rows = measured["filter_layers"]
    if len(rows) < 2:
        return []
    second, last = rows[1], rows[-1]
    return [
        f"Of {second['analysed']} analysed filters of {second['layer']} {second['specific_%']:.0f} % are edges or "
        f"blobs ({REFERENCE[measured['origin']]} {second['specific_before_%']:.0f} %), of {last['analysed']} of "
        f"{last['layer']} {last['specific_%']:.0f} % ({last['specific_before_%']:.0f} %)."
    ]


def _answers_words(measured: Mapping[str, Any]) -> list[str]:
    first, last = measured["answer_layers"][0], measured["answer_layers"][-1]
    change = "more" if last["silent_%"] > first["silent_%"] else "less"
    found = [
        f"{first['silent_%']:.0f} % of the answers of {first['layer']} are exactly 0, {last['silent_%']:.0f} % of "
        f"those of {last['layer']}: {change} is silent further on."
    ]
    if last["field_px"] is not None:
        found.append(f"One answer of {last['layer']} depends on {last['field_px']} × {last['field_px']} pixels.")
    return found
