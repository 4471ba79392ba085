"""What a film costs from its bytes to its tile, stage by stage: 1,024² and 3,000², uncompressed and JPEG 2000.

    .venv/bin/python benchmarks/film_to_tile.py [--rounds 5] [--sizes 1024 3000]

The films are synthetic (a phantom enlarged, with noise). The least of several rounds is shown, in milliseconds of the
processor, since other work on the machine only adds to the clock.
"""

import argparse
import io
import time
from collections.abc import Callable

import numpy as np
from PIL import Image

from hilum.arrays import Array
from hilum.datasets.phantom.cohort import plan_cohort
from hilum.datasets.phantom.config import PhantomConfig
from hilum.datasets.phantom.rendering import render
from hilum.imaging.codecs import decode_frame
from hilum.imaging.dicom_reading import encoded_film
from hilum.imaging.dicom_structure import examine
from hilum.imaging.dicom_writing import FilmHeader, film_bytes
from hilum.imaging.intended_use import GatePolicy
from hilum.imaging.limits import Limits
from hilum.imaging.preprocessing import Preprocessing, preprocess
from hilum.imaging.quality import measure_quality
from hilum.imaging.reading import read_film
from hilum.imaging.reduced_reading import read_reduced, reduced_tile
from hilum.imaging.second_decoder import check_decoded
from hilum.inference.preparing import prepare_film

JPEG_2000 = "1.2.840.10008.1.2.4.90"


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--sizes", type=int, nargs="+", default=[1024, 3000])
    given = parser.parse_args()
    print("| film | stage | ms of processor, least |")
    print("|---|---|---|")
    for size in given.sizes:
        codes = film(size)
        for name, syntax in (("uncompressed", "explicit-le"), ("JPEG 2000 lossless", "jpeg2000-lossless")):
            content, _ = film_bytes(codes, FilmHeader(bits_stored=12, window=(2048, 4096)), transfer_syntax=syntax)
            for stage, run in stages(content, compressed=syntax != "explicit-le").items():
                spent = least(run, given.rounds if syntax == "explicit-le" else min(2, given.rounds))
                print(f"| {size} × {size} {name} | {stage} | {spent:.1f} |", flush=True)


def film(size: int) -> Array:
    """A synthetic 12-bit film."""
    plan = plan_cohort(PhantomConfig(patients=1, size=512, second_film_share=0, seed=7))[0]
    small = Image.fromarray(render(plan).pixels.clip(0, 1).astype(np.float32))
    large = np.asarray(small.resize((size, size), Image.Resampling.BICUBIC)).clip(0.02, 0.96)
    noise = np.random.default_rng(0).normal(0, 0.004, (size, size))
    codes: Array = np.rint((large + noise).clip(0, 1) * 4095).astype(np.uint16)
    return codes


def stages(content: bytes, *, compressed: bool) -> dict[str, Callable[[], object]]:
    """What is measured on one film, by name."""
    config, limits = Preprocessing(), Limits()
    read = read_film(content)
    found: dict[str, Callable[[], object]] = {
        "walk over the file": lambda: examine(io.BytesIO(content), limits),
        "read: bytes to presentation values": lambda: read_film(content),
        "measures of quality": lambda: measure_quality(read.pixels),
        "tile from presentation values": lambda: preprocess(read.pixels, config),
        "prepare, one decoder": lambda: prepare_film(content, config, GatePolicy(second_decoder=False)),
    }
    if compressed:
        encoded = encoded_film(content, limits, (JPEG_2000,))
        if encoded is None:
            raise RuntimeError("the film isn't JPEG 2000")
        form, syntax, frame = encoded.form, encoded.syntax, bytes(encoded.frame)
        codes = decode_frame(frame, syntax, form)
        found["of it the decoder"] = lambda: decode_frame(frame, syntax, form)
        found["the second decoder"] = lambda: check_decoded(codes, frame, syntax, form)
        reduced = read_reduced(content, config, limits)
        if reduced is not None:
            found["reduced decoding and tile"] = lambda: reduced_tile(
                read_reduced(content, config, limits) or reduced, config
            )
    return found


def least(run: Callable[[], object], rounds: int) -> float:
    """Milliseconds of the processor, the least of several rounds."""
    spent = []
    for _ in range(rounds):
        started = time.process_time()
        run()
        spent.append(1000 * (time.process_time() - started))
    return min(spent)


if __name__ == "__main__":
    main()
