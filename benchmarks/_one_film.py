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
from hilum.imaging import dicom_reading, reduced_reading
from hilum.imaging.dicom_reading import encoded_film
from hilum.imaging.dicom_writing import FilmHeader, film_bytes
from hilum.imaging.intended_use import GatePolicy
from hilum.imaging.limits import Limits
from hilum.imaging.preprocessing import Preprocessing, preprocess
from hilum.imaging.quality import measure_quality
from hilum.imaging.reading import read_film
from hilum.imaging.reduced_quality import reduced_quality
from hilum.imaging.reduced_reading import JPEG_2000_SYNTAXES, read_reduced, reduced_samples, reduced_tile
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

JPEG_2000 = "jpeg2000-lossless"
POLICY = GatePolicy(second_decoder=False)

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
    with open_bundle(bundle, threads, policy=POLICY) as opened:
        for side in sides:
            for syntax in ("explicit-le", JPEG_2000):
                content = film_of(side, syntax)
                repeats = max(3, options.repeats // (4 if syntax == JPEG_2000 else 2))
                ways = ways_to_answer(opened, content) | pieces_of_whole(opened, content)
                # The decoder's time in the very runs that were timed; those before them were to warm up.
                times, decoded = with_decoder(ways, (dicom_reading, "decode_frame"), repeats)
                rows.append({"side": side, "syntax": syntax, "bytes": len(content), **times})
                if syntax == JPEG_2000:
                    rows[-1]["decoder"] = decoded
    return rows


def reduced_films_to_answers(options: argparse.Namespace, bundle: Path, threads: int) -> list[dict[str, Any]]:
    """The same for a full-size film with a window and a bundle that asks for reduced decoding.

    The decoder's own time is measured both in the runs that are timed and alone, on the same frame and in turn with
    them.
    """
    side = 1024 if options.smoke else 3000
    content = film_of(side, JPEG_2000, window=(2048, 4096))
    with open_bundle(bundle, threads, policy=POLICY) as opened:
        ways = ways_to_answer(opened, content) | pieces_of_reduced(opened, content)
        # Tiles as small as a smoke run's leave too few pixels to measure a film by.
        assert options.smoke or ways["quality"]() is not None
        times, decoded = with_decoder(ways, (reduced_reading, "reduced_samples"), max(3, options.repeats // 2))
    row = {"side": side, "syntax": JPEG_2000, "decoding": "reduced", "bytes": len(content)}
    return [row | times | {"decoder": decoded}]


def with_decoder(
    ways: dict[str, Callable[[], object]], decoder: tuple[object, str], repeats: int
) -> tuple[dict[str, list[float]], list[float]]:
    """Milliseconds of each way, and those of the decoder in each run of the way to an answer.

    Args:
        ways: what is timed; "answer" is the whole way.
        decoder: the decoder, as an attribute of its module.
        repeats: runs of each.
    """
    decoded: list[float] = []
    with clocked([(*decoder, "decoder")]) as seconds:

        def answer() -> None:
            before = seconds.get("decoder", 0.0)
            ways["answer"]()
            decoded.append(1000 * (seconds.get("decoder", 0.0) - before))

        times = in_turn(ways | {"answer": answer}, repeats)
    return times, decoded[-repeats:]


def ways_to_answer(opened: Assessor, content: bytes) -> dict[str, Callable[[], object]]:
    """The whole way of a film, and those pieces of it that depend on no decoder, each alone."""

    def made() -> Assessment:
        (one,) = opened.assess_prepared([opened.prepare(content)])
        assert one.analysed, one.reasons
        assert '"heatmaps":{"' in one.to_canonical_json(maps=True)
        return one

    prepared, assessment = opened.prepare(content), made()
    tiles = prepared.tile[None, None]
    return {
        "answer": made,
        "drawn": lambda: made().heatmap("covid-19").png(),
        "prepare": lambda: opened.prepare(content),
        "inference": lambda: opened.runtime.run(tiles),
        "json": lambda: assessment.to_canonical_json(maps=True),
    }


def pieces_of_whole(opened: Assessor, content: bytes) -> dict[str, Callable[[], object]]:
    film, preprocessing = read_film(content), opened.info.preprocessing
    return {
        "reading": lambda: read_film(content),
        "quality": lambda: measure_quality(film.pixels),
        "tile": lambda: preprocess(film.pixels, preprocessing),
    }


def pieces_of_reduced(opened: Assessor, content: bytes) -> dict[str, Callable[[], object]]:
    limits, preprocessing = Limits(), opened.info.preprocessing
    film, encoded = read_reduced(content, preprocessing, limits), encoded_film(content, limits, JPEG_2000_SYNTAXES)
    assert film is not None
    assert encoded is not None
    return {
        "alone": lambda: reduced_samples(encoded.frame, film.scale),
        "reading": lambda: read_reduced(content, preprocessing, limits),
        "quality": lambda: reduced_quality(film, POLICY),
        "tile": lambda: reduced_tile(film, preprocessing),
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
    reduced = [row for row in found.get("films", []) if row.get("decoding") == "reduced"]
    for row in found.get("films", []):
        plain = row["syntax"] == "explicit-le"
        way = ", at reduced size" if row in reduced else ", whole" if reduced and not plain else ""
        name = f"{row['side']:,}², {'uncompressed' if plain else row['syntax']}{way}"
        if not plain:
            alone = row.get("alone", row.get("decoder", row.get("decode")))
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
    if reduced:
        words += _about_both(reduced)
    columns = ["film", "answer, ms", "bar", "with a picture, ms"]
    about = (
        "\nThe pieces of it, each alone; the decoder's are those of the whole way. Reading goes from bytes to "
        "presentation values (the decoder is part of it) with the file's digest beside it; preparing is reading, then "
        "quality and tile.\n\n"
    )
    apart = about + table(["film", *PIECES.values()], pieces) if pieces else ""
    return "### One film\n\n" + words + table(columns, rows) + apart + _reduced_text(found)


def _about_both(reduced: list[dict[str, Any]]) -> str:
    alone = ", ".join(f"{spread(row['alone'])} ms at {row['side']:,}²" for row in reduced)
    return (
        "JPEG 2000 goes two ways. *At reduced size*: the bundle asks for it (`Preprocessing.decoding`), and the film's "
        "window allows it; the film is never decoded whole. This is the way that the bar of 3,000² speaks of, the "
        f"decoder's own time and 60 ms more. That time is the reduced decoder's, alone on the same frame, {alone}. "
        "*Whole*: the bundle doesn't ask, or the film doesn't allow it (decision 14 says which do); held to the same "
        "60 ms beside the decoder of whole films, as timed within the answer. At 1,024² nothing is to be had by "
        "reducing for tiles of 224.\n\n"
    )


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
        "frame. The reading room decodes whole as well where a site asks for a second opinion.\n\n"
    )
    columns = ["film, with a window", "whole, ms", "reduced, ms", "times faster", "mean difference", "largest"]
    return words + table(columns, rows)
