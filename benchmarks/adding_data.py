"""What more data cost: 1,000, then 10,000, then 100,000 phantom films, each time only the new ones are work.

Run: OMP_NUM_THREADS=2 python benchmarks/adding_data.py [--work WORK] [--counts 1000 10000 100000] [--size 64]

Films are synthetic (phantoms of 192 rows), drawn in cohorts of at most 1,000 below WORK. Beyond ten cohorts, which take
minutes to draw, a film is a drawn one with fresh noise in its lowest bits and a UID of its own. Neither is measured. At
each count a process of its own imports the films, decodes those that are new, and trains one epoch of a small network
on all of them, streamed from disk as if the memory did not hold them. Milliseconds a film should stay the same
(linear), and so should the peak memory (flat), but for what a row of the manifest takes. They are the processor's,
children included, so that other work on the machine changes them little; what a person waits stands beside them.
Killed, it goes on where it was: cohorts, facts of films, tiles and finished counts (WORK/measured.jsonl) are kept.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pydicom
from _section import Save, head, main, table

from hilum.datasets.importing import import_folder
from hilum.datasets.manifest import Manifest
from hilum.datasets.phantom.config import PhantomConfig
from hilum.datasets.phantom.writing import generate
from hilum.imaging.preprocessing import Preprocessing
from hilum.labels import Findings
from hilum.models.classifier import ClassifierConfig, build_classifier
from hilum.runs.tiles import open_tiles
from hilum.training.stages import Stage
from hilum.training.transfer import TrainingConfig, TrainingData, train_member

COHORT = 1000
DRAWN = 10
"""Cohorts that are drawn; each of the others is made from one of them."""


def cohorts(work: Path, count: int) -> list[Path]:
    """Folders of so many films together; made where they are missing."""
    folders: list[Path] = []
    for number in range(-(-count // COHORT)):
        films = min(COHORT, count - number * COHORT)
        folder = work / f"cohort{number:03d}-{films}"
        if number < DRAWN:
            generate(PhantomConfig(patients=films, size=192, second_film_share=0, seed=number), folder)
        elif not (folder / "labels.csv").exists():
            vary(folders[number % DRAWN], folder, number)
        folders.append(folder)
    return folders


def vary(drawn: Path, folder: Path, number: int) -> None:
    """The films of a drawn cohort again: their lowest two bits are noise, and their UIDs end in the cohort's number."""
    lines = (drawn / "labels.csv").read_text().splitlines()
    names = [line.split(",")[0] for line in lines[1:]]
    chance = np.random.default_rng(number)
    for name in names:
        content = bytearray((drawn / name).read_bytes())
        film = pydicom.dcmread(drawn / name, stop_before_pixels=True)
        uid = str(film.SOPInstanceUID).encode()
        pixels = np.frombuffer(content, np.uint16, offset=len(content) - 2 * film.Rows * film.Columns)
        pixels ^= chance.integers(0, 4, len(pixels), np.uint16)
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(bytes(content).replace(uid, uid[:-3] + b"%03d" % number))
    (folder / "labels.csv").write_text("".join(f"{line.rsplit(',', 1)[0]}\n" for line in lines))


def _slim(folder: Path, work: Path) -> pa.Table:
    """A cohort's rows without the small pictures that look for copies, 4 KB a film."""
    films, _ = import_folder(folder, cache=work / "facts.sqlite")
    return films.in_folder(work).table.drop_columns(["thumb"])


def gathered(work: Path, folders: list[Path]) -> Manifest:
    """One manifest of all cohorts; what is known of a film is not read again."""
    slim = [_slim(folder, work) for folder in folders]
    table = pa.concat_tables(slim).combine_chunks()
    return Manifest.from_columns({name: table[name] for name in table.column_names}, folder=work)


def clock() -> tuple[float, float]:
    """Seconds of the processor, those of children that have ended included, and seconds on the wall."""
    used = [resource.getrusage(whose) for whose in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used), time.perf_counter()


def counted(work: Path, count: int, size: int) -> dict[str, Any]:
    """[Processor, wall] seconds of import, decoding and one epoch, and the peak memory in MB."""
    laps = [clock()]
    films = gathered(work, cohorts(work, count))
    laps.append(clock())
    with open_tiles(films, Preprocessing(size=size), work / "cache", wanted="streaming") as (tiles, _):
        laps.append(clock())
        findings = Findings(tuple(films.labels))
        config = ClassifierConfig(backbone="hilum_small", findings=findings.names, size=size)
        classifier, _ = build_classifier(config, "hilum", 0)
        data = TrainingData(
            tiles=tiles,
            film_ids=tuple(films.strings("film_id")),
            targets=films.targets(findings),
            fit=np.arange(count // 10, count),
            watch=np.arange(count // 10),
        )
        stage = Stage(name="all", trainable_from="all", lr=1e-3, epochs=1, views=None)
        with tempfile.TemporaryDirectory(dir=work) as folder:
            train_member(classifier, data, (stage,), TrainingConfig(), folder=Path(folder), cache=None, seed=0)
    laps.append(clock())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    names = ("import", "decode", "epoch")
    return {"films": count, **dict(zip(names, np.diff(laps, axis=0).tolist(), strict=True)), "peak_mb": peak}


def measure(options: argparse.Namespace, save: Save) -> dict[str, Any]:
    counts = [20, 40] if options.smoke else sorted(options.counts)
    work = options.work
    work.mkdir(parents=True, exist_ok=True)
    kept = work / "measured.jsonl"
    known = {row["films"]: row for row in map(json.loads, kept.read_text().splitlines())} if kept.exists() else {}
    for count in counts:
        cohorts(work, count)
        if count not in known:
            command = [sys.executable, __file__, "--one", str(work), str(count), str(options.size)]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
            known[count] = json.loads(done.stdout)
            with open(kept, "a") as handle:
                handle.write(json.dumps(known[count]) + "\n")
    return {"size": options.size, "rows": [known[count] for count in counts]}


def write(measured: dict[str, Any]) -> str:
    lines, before = [], 0
    for row in measured["rows"]:
        count, new = row["films"], row["films"] - before
        ms = [
            f"{1000 * processor / each:.2f} ({1000 * wall / each:.2f})"
            for (processor, wall), each in ((row["import"], new), (row["decode"], new), (row["epoch"], count))
        ]
        lines.append([f"{count:,}", f"{new:,}", *ms, f"{row['peak_mb']:.0f}"])
        before = count
    columns = ["films", "of them new", "import, a new film", "decode, a new film", "epoch, a film", "peak memory, MB"]
    about = (
        f"\nSynthetic phantom films at {measured['size']}², streamed from disk; one run each. Milliseconds of the "
        f"processor (on the wall, where other work may have run). {measured.get('note', '')}".rstrip()
        + "\n\n"
    )
    return head(measured) + about + table(columns, lines)


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--work", type=Path, default=Path("runs/adding-data"), help="films and caches are kept there")
    parser.add_argument("--counts", type=int, nargs="+", default=[1000, 10_000, 100_000])
    parser.add_argument("--size", type=int, default=64)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:  # the process that is measured
        print(json.dumps(counted(Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))))
    else:
        main(__doc__, measure, write, add)
