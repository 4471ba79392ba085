"""How often burnt-in text is found, and how often what is none is taken for it, on synthetic chest films.

Films come from `hilum.datasets.phantom`, each with its lead marker; lines that look like a name, an id and a date (made
up, of letters and digits by chance) are drawn near a border or anywhere, in several heights, bright or dark, with and
without a box behind. A line on ground like its ink is no line that anybody reads: strokes count that differ from the
film by two per cent of its range, and lines with less than a tenth of such strokes are counted apart. Deterministic
for a seed.

    python benchmarks/burnt_in_text.py --films 200
    python benchmarks/burnt_in_text.py --images ../shared/data/chest/images

The second counts the films of a folder of pictures that are masked and set apart, of each source (a file's name up to
its first hyphen). Real films have text of their own ("AP PORTABLE"), so only a look says which of them are false.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from hilum.arrays import Array
from hilum.datasets.phantom.cohort import plan_cohort
from hilum.datasets.phantom.config import PhantomConfig
from hilum.datasets.phantom.detector import store
from hilum.datasets.phantom.rendering import render
from hilum.imaging.burnt_in_text import TextLine, find_text

LETTERS = "ABCDEFGHIJKLMNOPRSTUVWZ"
KINDS = ("bright", "dark", "boxed")


def made_up(rng: np.random.Generator) -> str:
    """A line that looks like a name, an id or a date."""
    kind = rng.integers(3)
    if kind == 0:
        return "".join(rng.choice(list(LETTERS), rng.integers(4, 9))) + "^" + "".join(rng.choice(list(LETTERS), 4))
    if kind == 1:
        return "ID " + "".join(str(digit) for digit in rng.integers(0, 10, rng.integers(5, 10)))
    return f"{rng.integers(1, 29):02d}.{rng.integers(1, 13):02d}.{rng.integers(1930, 2010)}"


def draw(codes: Array, rng: np.random.Generator) -> tuple[Array, Array, dict[str, Any]]:
    """A film with one line drawn into it, where its strokes are, and how it was drawn."""
    rows, columns = codes.shape
    height = int(rng.integers(12, 33) * rows / 1024)
    kind, border = str(rng.choice(KINDS)), bool(rng.random() < 0.7)
    font = ImageFont.load_default(height)
    line = made_up(rng)
    left, top, right, bottom = (int(side) for side in font.getbbox(line))
    wide, tall = right - left, bottom - top
    x = int(rng.integers(8, max(9, columns - wide - 8)))
    y = int(rng.integers(8, rows // 12)) if border else int(rng.integers(rows // 12, rows - tall - 8))
    y = rows - tall - 8 - y if border and rng.random() < 0.5 else y
    stencil = Image.new("L", (columns, rows))
    ImageDraw.Draw(stencil).text((x - left, y - top), line, fill=255, font=font)
    strokes = np.asarray(stencil, np.float32) / 255
    low, high = float(codes.min()), float(codes.max())
    film = codes.astype(np.float32)
    if kind == "boxed":
        film[max(0, y - 4) : y + tall + 4, max(0, x - 4) : x + wide + 4] = low
    ink = low if kind == "dark" else high
    return (film * (1 - strokes) + ink * strokes).astype(codes.dtype), strokes > 0.5, {"kind": kind, "border": border}


def visible(codes: Array, drawn: Array, strokes: Array) -> Array:
    """The strokes that differ from the film without them by 2 % of its range."""
    change = np.abs(drawn.astype(np.float32) - codes.astype(np.float32))
    seen: Array = strokes & (change > 0.02 * (float(codes.max()) - float(codes.min())))
    return seen


def covered(lines: tuple[TextLine, ...], strokes: Array, *, sure: bool) -> float:
    """Share of the strokes under the rectangles that are found."""
    hidden = np.zeros(strokes.shape, bool)
    for one in lines:
        if one.sure or not sure:
            hidden[one.top : one.top + one.height, one.left : one.left + one.width] = True
    return float((hidden & strokes).sum() / strokes.sum())


def measure(films: int, seed: int) -> dict[str, Any]:
    """Draw, look, count."""
    rng = np.random.default_rng(seed)
    plans = plan_cohort(PhantomConfig(seed=seed))[:films]
    shares: list[dict[str, Any]] = []
    false_sure = false_weak = unseen = 0
    seconds = 0.0
    for plan in plans:
        codes = store(plan.device, render(plan).pixels)
        started = time.perf_counter()
        lines = find_text(codes)
        seconds += time.perf_counter() - started
        false_sure += any(one.sure for one in lines)
        false_weak += any(not one.sure for one in lines)
        drawn, strokes, how = draw(codes, rng)
        seen = visible(codes, drawn, strokes)
        if seen.sum() < 0.1 * strokes.sum():
            unseen += 1
            continue
        lines = find_text(drawn)
        shares.append({**how, "sure": covered(lines, seen, sure=True), "any": covered(lines, seen, sure=False)})
    return {
        "films": len(plans),
        "seed": seed,
        "lines that nobody sees": unseen,
        "masked whole": count(shares, lambda one: one["sure"] >= 0.99),
        "masked or shown to a person": count(shares, lambda one: one["any"] >= 0.99),
        "missed wholly": count(shares, lambda one: one["any"] == 0),
        **{kind: count([s for s in shares if s["kind"] == kind], lambda one: one["sure"] >= 0.99) for kind in KINDS},
        "near a border": count([s for s in shares if s["border"]], lambda one: one["sure"] >= 0.99),
        "elsewhere": count([s for s in shares if not s["border"]], lambda one: one["sure"] >= 0.99),
        "films without text that were masked": interval(false_sure, len(plans)),
        "films without text that a person is shown": interval(false_weak, len(plans)),
        "seconds a film": round(seconds / len(plans), 3),
    }


def looked_at(folder: Path) -> dict[str, Any]:
    """Films of a folder with what looks like text, by source."""
    found: dict[str, list[tuple[TextLine, ...]]] = {}
    for path in sorted(folder.glob("*.jpg")):
        with Image.open(path) as picture:
            codes = np.asarray(picture.convert("L"))
        found.setdefault(path.name.partition("-")[0], []).append(find_text(codes))
    return {
        source: {
            "films": len(films),
            "masked": sum(any(one.sure for one in lines) for lines in films),
            "set apart for a person": sum(any(not one.sure for one in lines) for lines in films),
            "lines masked": sum(one.sure for lines in films for one in lines),
            "lines a person is shown": sum(not one.sure for lines in films for one in lines),
        }
        for source, films in found.items()
    }


def count(shares: list[dict[str, Any]], true: Any) -> str:
    """How many, of how many, with an interval."""
    return interval(sum(map(true, shares)), len(shares))


def interval(k: int, n: int) -> str:
    """Counts with Wilson's interval at 95 %."""
    if not n:
        return "0 of 0"
    z = 1.959964
    middle, half = (k + z * z / 2) / (n + z * z), z / (n + z * z) * (k * (n - k) / n + z * z / 4) ** 0.5
    return f"{k} of {n} ({max(0.0, middle - half):.3f}–{min(1.0, middle + half):.3f})"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--films", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--images", type=Path, help="count films of this folder of JPEG pictures instead")
    given = parser.parse_args()
    told = looked_at(given.images) if given.images else measure(given.films, given.seed)
    print(json.dumps(told, indent=2, ensure_ascii=False))
