"""The page that lays explanations side by side, with its pictures and its numbers, so that they can be doubted well."""

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from hilum.arrays import Array
from hilum.files import write_bytes, write_json, write_text
from hilum.imaging.overlay import grey_png
from hilum.inference.assess import Assessor
from hilum.inference.assessment import NOTICE
from hilum.inference.explaining import GRAD_CAM, GRADIENTS, OCCLUSION, Explained, Refused
from hilum.inference.heatmaps import UNIT, Heatmap
from hilum.reports.page import Bullets, Facts, Gallery, Notice, Page, Picture, Section, render_page
from hilum.reports.tables import table

PAGE, NUMBERS, PICTURES = "explanation.html", "explanation.json", "pictures"

READING = {
    GRAD_CAM: (
        "Grad-CAM: where the last feature map gives to the finding's logit. Exact for this head, one value a cell of "
        "the map, so a cell's heat speaks of a region wider than itself. What speaks against the finding is not shown."
    ),
    OCCLUSION: (
        "Occlusion: how much of the logit is lost when a square there is painted grey. It trusts no gradient; but a "
        "painted film is unlike any film that the network has seen, and two places that can stand in for each other "
        "both look unimportant."
    ),
    GRADIENTS: (
        "Integrated gradients: the logit's difference from that of a uniformly grey film, shared out among the pixels "
        "and summed into cells. Complete, but noisy, and drawn to edges."
    ),
}

GUIDE = (
    "Look at the film first, without colours, and say where you would look.",
    "Then ask whether the methods agree. Where three ways that fail differently point to one place, the network does "
    "use that place; it does not follow that disease is there.",
    "Heat on markers, tubes, borders, shoulders or the abdomen means that the network looks at something that is not "
    "the lung: doubt its answer, however sure it is.",
    "Compare the findings' own maps: a map that is the same for all of them explains none.",
    "No heat at all is an answer too: then nothing on the film speaks for the finding, whatever its probability.",
)


def write_page(
    out: Path, assessor: Assessor, films: Sequence[Explained], refused: Sequence[Refused], *, style: str
) -> Path:
    """Write ``explanation.html``, ``explanation.json`` and ``pictures/``.

    Args:
        out: folder; made when absent.
        assessor: the bundle that answered.
        films: what was explained.
        refused: what could not be.
        style: ``heat`` or ``contour``.

    Returns:
        the page's path.
    """
    sections = [_film(out, film, style, number) for number, film in enumerate(films, start=1)]
    write_json(out / NUMBERS, numbers(assessor, films, refused))
    page = Page(
        title="Why these answers",
        subtitle=f"{assessor.info.name} {assessor.info.version} ({assessor.sha256[:12]})",
        lead=f"Heat maps of {len(films)} film{'s' if len(films) != 1 else ''}: {NOTICE}.",
        lead_tone="amber",
        notices=tuple(Notice(tone="amber", text=f"{one.name} is not explained: {one.reason}") for one in refused),
        sections=(_guide(films), *sections),
        footer=f"{assessor.runtime.name}, {assessor.runtime.precision}; colours mean the same on all films here.",
    )
    write_text(out / PAGE, render_page(page))
    return out / PAGE


def _guide(films: Sequence[Explained]) -> Section:
    methods = [method for method in READING if any(method in film.maps for film in films)]
    return Section(
        title="How to read this page",
        name="guide",
        blocks=(Bullets(GUIDE), Bullets(tuple(READING[method] for method in methods))),
    )


def _film(out: Path, film: Explained, style: str, number: int) -> Section:
    made = film.assessment
    first = film.maps[GRAD_CAM]
    maps = [_picture(out, film, method, one, style) for method, one in film.maps.items()]
    plain = _framed(first.picture(), maps[0].png)
    asked = [Picture(png=_kept(out, film, "film", plain), title="film", text="As the model saw it."), *maps]
    others = [
        _picture(out, film, GRAD_CAM, made.heatmap(finding), style)
        for finding in made.findings
        if finding != film.finding
    ]
    answer = [
        (finding, f"{made.probs[finding]:.3f} ± {made.mc_std[finding]:.3f} under dropout") for finding in made.findings
    ]
    doubts = [("no label, because", " ".join(made.reasons))] if made.reasons else [("label", str(made.label))]
    pairs = [
        [f"{one} and {other}", "not defined: one is flat" if value is None else f"{value:.2f}".replace("-", "−")]
        for (one, other), value in film.agreement.items()
    ]
    blocks: list[Any] = [
        Facts((*doubts, *answer, *((name, f"{value:.3f}".replace("-", "−")) for name, value in film.notes.items()))),
        Gallery(caption=f"The film, and the evidence for {film.finding} by method.", items=tuple(asked)),
        Gallery(caption="Grad-CAM of the other findings, on the same scale.", items=tuple(others)),
    ]
    if pairs:
        blocks.append(
            table("How far methods agree: rank correlation over the feature map's cells.", ["methods", "ρ"], pairs)
        )
    return Section(title=f"{number}. {film.name}", name=f"film-{number}", blocks=tuple(blocks))


def _picture(out: Path, film: Explained, method: str, heat: Heatmap, style: str) -> Picture:
    content = _kept(out, film, f"{method}-{heat.finding}", heat.png(style=style, bar=True))
    probability = film.assessment.probs[heat.finding]
    return Picture(
        png=content,
        title=f"{method}, {heat.finding}",
        text=f"Probability {probability:.3f}; full heat is {heat.top:.3g} {UNIT}. Not for diagnosis.",
    )


def _framed(picture: Array, beside: bytes) -> bytes:
    """The film as PNG, on black as wide as a picture beside it with its scale: a place is where it is in that one."""
    with Image.open(io.BytesIO(beside)) as other:
        width = other.width
    return grey_png(np.pad(picture, ((0, 0), (0, width - picture.shape[1]))))


def _kept(out: Path, film: Explained, what: str, content: bytes) -> bytes:
    safe = "".join(letter if letter.isalnum() or letter == "-" else "_" for letter in what)
    write_bytes(out / PICTURES / f"{film.assessment.film_sha256[:16]}-{safe}.png", content)
    return content


def numbers(assessor: Assessor, films: Sequence[Explained], refused: Sequence[Refused]) -> dict[str, Any]:
    """What the page says, as JSON values."""
    return {
        "notice": NOTICE,
        "bundle_sha256": assessor.sha256,
        "films": [
            {
                "file": film.name,
                "finding": film.finding,
                "assessment": json.loads(film.assessment.to_canonical_json()),
                "tops": {method: one.top for method, one in film.maps.items()},
                "agreement": {f"{one} / {other}": value for (one, other), value in film.agreement.items()},
                "notes": film.notes,
            }
            for film in films
        ],
        "refused": [{"file": one.name, "reason": one.reason} for one in refused],
    }
