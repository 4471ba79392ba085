"""A large table through import, split and the check that nothing is shared: seconds and memory of each step.

Run: OMP_NUM_THREADS=1 python benchmarks/manifest_rows.py [--rows 10000 100000 1000000] [--seed 0]

The table is made up: patients of one to several films, three labels, five sources, dates, ages, and SHA-256 that are
hashes of row numbers; there are no films behind it. Films are not opened (``read_films=False``), so what is measured is
the work on rows: reading and checking the CSV, writing and reading Parquet, the split by patient with its proof that
fit, test and folds share nothing, and the overlap with a second table by patient, SOP instance and SHA-256. Each size
runs in a process of its own; its peak memory is what the system counted.
"""

import argparse
import csv
import hashlib
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from _section import Save, head, main, table, verdict

from hilum.datasets.duplicates import find_duplicates
from hilum.datasets.importing import ImportConfig, import_csv
from hilum.datasets.manifest import Manifest
from hilum.datasets.split_report import overlap_of, report_of
from hilum.datasets.splits import split
from hilum.randomness import stream

STEPS = ("import", "write", "read", "split", "overlap")
SECONDS, MEGABYTES = 60, 2000


def write_table(path: Path, rows: int, seed: int) -> None:
    """A made-up table; the share of patients with several films is that of large public sets, about a half."""
    chance = stream(seed, "table", rows)
    films = chance.geometric(0.5, rows)  # of each patient
    patient = np.repeat(np.arange(rows), films)[:rows]
    label = chance.choice(["normal", "pneumonia", "covid-19"], rows, p=[0.6, 0.3, 0.1])
    source = np.array([f"hospital-{i}" for i in range(5)])[chance.integers(0, 5, rows)[patient]]
    day = np.datetime64("2015-01-01") + chance.integers(0, 3000, rows)
    age, sex, view = chance.integers(18, 95, rows), chance.choice(["M", "F"], rows), chance.choice(["PA", "AP"], rows)
    with open(path, "w", newline="") as handle:
        writer = csv.writer(handle)
        writer.writerow(["path", "sha256", "patient_id", "label", "source", "date", "age", "sex", "view"])
        for i in range(rows):
            digest = hashlib.sha256(f"{seed} {i}".encode()).hexdigest()
            where = f"films/{i // 1000:04d}/{i:07d}.dcm"
            writer.writerow([where, digest, f"P{patient[i]:07d}", label[i], source[i], day[i], age[i], sex[i], view[i]])


def steps(folder: Path, table: Path) -> dict[str, float]:
    """Seconds of each step, and the peak memory in MB."""
    seconds: dict[str, float] = {}
    started = time.perf_counter()

    def lap(step: str) -> None:
        nonlocal started
        seconds[step] = time.perf_counter() - started
        started = time.perf_counter()

    films, _ = import_csv(table, ImportConfig(read_films=False))
    lap("import")
    films.write(folder / "manifest.parquet")
    lap("write")
    films = Manifest.read(folder / "manifest.parquet")
    lap("read")
    films = split(films)
    lap("split")
    overlap = overlap_of(films, find_duplicates(films))
    lap("overlap")
    assert overlap.total == 0
    assert report_of(films).films == len(films)
    return {**seconds, "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}


def measure(options: argparse.Namespace, save: Save) -> dict[str, Any]:
    found: dict[str, Any] = {"rows": []}
    for rows in [1000] if options.smoke else options.rows:
        with tempfile.TemporaryDirectory() as folder:
            written = Path(folder) / "table.csv"
            write_table(written, rows, options.seed)
            command = [sys.executable, __file__, "--one", str(written)]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
        found["rows"].append({"rows": rows, **json.loads(done.stdout)})
        save(found)
    return found


def write(measured: dict[str, Any]) -> str:
    lines = []
    for row in measured["rows"]:
        times = [row[step] for step in STEPS]
        cells = [*(f"{one:.2f}" for one in times), f"{sum(times):.1f}", f"{row['peak_mb']:.0f}"]
        lines.append([f"{row['rows']:,}", *cells])
    columns = ["rows", *(f"{step}, s" for step in STEPS), "together, s", "peak memory, MB"]
    about = "\nMade-up tables, no films behind them; one run each.\n\n"
    judged = ""
    for row in measured["rows"]:
        if row["rows"] == 1_000_000:
            time_bar = verdict(sum(row[step] for step in STEPS), SECONDS, ".0f", least=False)
            memory_bar = verdict(row["peak_mb"], MEGABYTES, ",.0f", least=False)
            judged = f"\nA million rows: seconds together {time_bar}; megabytes {memory_bar}.\n"
    return head(measured) + about + table(columns, lines) + judged


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--seed", type=int, default=0)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:  # the process that is measured
        print(json.dumps(steps(Path(sys.argv[2]).parent, Path(sys.argv[2]))))
    else:
        main(__doc__, measure, write, add)
