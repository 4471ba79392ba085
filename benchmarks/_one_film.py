"""One film from its bytes to an answer, and to a tile: what `one_pass.py` measures of it, and how it is told."""

import argparse
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from _section import clocked, in_turn, spread, table, verdict

from hilum.datasets.phantom.cohort import plan_cohort
from hilum.datasets.phantom.config import PhantomConfig
from hilum.datasets.phantom.rendering import render
from hilum.imaging import dicom_reading
from hilum.imaging.dicom_writing import FilmHeader, film_bytes
from hilum.imaging.intended_use import GatePolicy
from hilum.imaging.preprocessing import Preprocessing, preprocess
from hilum.imaging.quality import measure_quality
from hilum.imaging.reading import read_film
from hilum.imaging.tile_reading import film_tile
from hilum.inference.assess import Assessor, open_bundle
from hilum.inference.assessment import Assessment

PIECES = {
    "decoder": "decoder",
    "reading": "reading",
    "quality": "quality",
    "tile": "tile",
    "prepare": "preparing",
    "inference": "inference",
    "json": "JSON",
}
"""Pieces of the way from bytes to an answer, with their columns."""

FILM_MS, BESIDE_DECODING_MS = {1024: 60.0, 3000: 150.0}, 60.0
MEAN_APART, MOST_APART = 0.5, 40
"""Most that a tile of a reduced film may differ, mean and largest, in grey levels of 255: the film has a marker with a
frame, for which the bound is wider than for anatomy (`tests/imaging/test_reduced_phantoms.py`)."""


def film_of(side: int, syntax: str, seed: int = 0, window: tuple[float, float] | None = None) -> bytes:
    """A phantom film of side × side, 12 bits; one of 3,000 is drawn at a third and enlarged, with noise."""
    drawn = min(side, 1000 if side % 1000 == 0 else 1024)
    plan = plan_cohort(PhantomConfig(patients=1, size=drawn, second_film_share=0))[0]
    pixels = np.clip(render(plan).pixels, 0, 1)
    pixels = np.kron(pixels, np.ones((side // drawn, side // drawn)))[:side, :side]
    noisy = pixels + np.random.default_rng(seed).normal(0, 0.01, pixels.shape)
    header = FilmHeader(bits_stored=12, patient_id="SYNTHETIC", age_years=50, window=window)
    return film_bytes((np.clip(noisy, 0, 1) * 4095).astype(np.uint16), header, transfer_syntax=syntax)[0]


def films_to_answers(options: argparse.Namespace, bundle: Path, threads: int) -> list[dict[str, Any]]:
    """DICOM bytes to a JSON answer with the heat map of every finding, its pieces, and one map drawn besides."""
    sides = (256,) if options.smoke else (1024, 3000)
    rows = []
    with open_bundle(bundle, threads, policy=GatePolicy(second_decoder=False)) as opened:
        for side in sides:
            for syntax in ("explicit-le", "jpeg2000-lossless"):
                content = film_of(side, syntax)
                repeats = max(3, options.repeats // (4 if syntax == "jpeg2000-lossless" else 2))
                with clocked([(dicom_reading, "decode_frame", "decoder")]) as seconds:
                    decoded: list[float] = []
                    times = in_turn(ways_to_answer(opened, content, seconds, decoded), repeats)
                # The decoder's time in the very runs that were timed; those before them were to warm up.
                if syntax != "explicit-le":
                    times["decoder"] = [1000 * one for one in decoded[-repeats:]]
                rows.append({"side": side, "syntax": syntax, "bytes": len(content), **times})
    return rows


def ways_to_answer(
    opened: Assessor, content: bytes, seconds: dict[str, float], decoded: list[float]
) -> dict[str, Callable[[], object]]:
    """The whole way of a film, and each of its pieces alone.

    Args:
        opened: the bundle.
        content: the film's file.
        seconds: what the decoder has taken so far, from `clocked`.
        decoded: seconds of the decoder in each run of the whole way are appended here.
    """

    def made() -> Assessment:
        (one,) = opened.assess_prepared([opened.prepare(content)])
        assert one.analysed, one.reasons
        assert '"heatmaps":{"' in one.to_canonical_json(maps=True)
        return one

    def answer() -> None:
        before = seconds.get("decoder", 0.0)
        made()
        decoded.append(seconds.get("decoder", 0.0) - before)

    prepared, film, assessment = opened.prepare(content), read_film(content), made()
    tiles, preprocessing = prepared.tile[None, None], opened.info.preprocessing
    return {
        "answer": answer,
        "drawn": lambda: made().heatmap("covid-19").png(),
        "reading": lambda: read_film(content),
        "quality": lambda: measure_quality(film.pixels),
        "tile": lambda: preprocess(film.pixels, preprocessing),
        "prepare": lambda: opened.prepare(content),
        "inference": lambda: opened.runtime.run(tiles),
        "json": lambda: assessment.to_canonical_json(maps=True),
    }


def tiles_of_reduced_films(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Bytes to a tile, decoded whole and at reduced size, and how far the tiles lie apart."""
    side = 1024 if options.smoke else 3000
    content = film_of(side, "jpeg2000-lossless", window=(2048, 4096))
    configs = {one: Preprocessing(size=options.size, decoding=one) for one in ("full", "reduced")}
    times = in_turn(
        {one: lambda c=config: film_tile(content, c) for one, config in configs.items()},
        max(3, options.repeats // 4),
        warm=1,
    )
    whole, reduced = (film_tile(content, config).astype(int) for config in configs.values())
    apart = np.abs(whole - reduced)
    mean, most = float(apart.mean()), int(apart.max())
    return [{"side": side, "syntax": "jpeg2000-lossless", **times, "mean": mean, "most": most}]


def films_text(found: dict[str, Any]) -> str:
    rows, pieces = [], []
    for row in found.get("films", []):
        plain = row["syntax"] == "explicit-le"
        name = f"{row['side']:,}², {'uncompressed' if plain else row['syntax']}"
        if not plain:
            alone = row.get("decoder", row.get("decode"))
            beside = [whole - own for whole, own in zip(row["answer"], alone, strict=True)]
            bar = verdict(statistics.median(beside), BESIDE_DECODING_MS, ".0f", least=False)
            judged = f"{spread(beside)} beside the decoder, {bar}"
        else:
            most = FILM_MS.get(row["side"])
            judged = verdict(statistics.median(row["answer"]), most, ".0f", least=False) if most else "none"
        rows.append([name, spread(row["answer"]), judged, spread(row["drawn"])])
        if "inference" in row:
            pieces.append([name, *(spread(row[one]) if one in row else "–" for one in PIECES)])
    kept = " that keeps freed memory as the children that decode do" if found.get("allocation") else ""
    words = (
        "DICOM bytes to a JSON answer with the heat map of every finding as numbers, in one process (ONNX Runtime)"
        f"{kept}; and the same with one map drawn over the film, as a small PNG. Compressed films by one decoder, "
        "whose own time the bar leaves out; the second one, which checks "
        "it unless a site's policy says otherwise, adds its "
        "own time.\n\n"
    )
    columns = ["film", "answer, ms", "bar", "with a picture, ms"]
    about = (
        "\nThe pieces of it, each alone; the decoder's are those of the whole way. Reading goes from bytes to "
        "presentation values (the decoder is part of it) with the file's digest beside it; preparing is reading, then "
        "quality and tile.\n\n"
    )
    apart = about + table(["film", *PIECES.values()], pieces) if pieces else ""
    return "### One film\n\n" + words + table(columns, rows) + apart + _reduced_text(found)


def _reduced_text(found: dict[str, Any]) -> str:
    rows = []
    for row in found.get("reduced", []):
        faster = [whole / reduced for whole, reduced in zip(row["full"], row["reduced"], strict=True)]
        bars = (
            f"{row['mean']:.2f}, {verdict(row['mean'], MEAN_APART, '.1f', least=False)}",
            f"{row['most']}, {verdict(row['most'], MOST_APART, 'd', least=False)}",
        )
        name = f"{row['side']:,}², {row['syntax']}"
        rows.append([name, *(spread(one) for one in (row["full"], row["reduced"], faster)), *bars])
    if not rows:
        return ""
    words = (
        "\nBytes to a tile alone, as a training's cache makes it, decoded whole and at reduced size "
        "(`Preprocessing.decoding`); grey levels of 255 by which the tiles differ, on a film whose marker has a thin "
        "frame. The reading room decodes whole all the same, for quality and the second opinion.\n\n"
    )
    columns = ["film, with a window", "whole, ms", "reduced, ms", "times faster", "mean difference", "largest"]
    return words + table(columns, rows)
