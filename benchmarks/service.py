"""How long a person waits: for help, for the service, for an answer.

``make bench`` runs it on the demo's bundle. Medians of several runs, with the smallest and the largest; times depend on
the machine, so quote them with it.
"""

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
from _section import Save, head, main, spread, table

from hilum.datasets.phantom.config import PhantomConfig
from hilum.datasets.phantom.writing import generate


def times(what: str, runs: int, measure: Callable[[int], float]) -> dict[str, Any]:
    """One row: seconds of each run."""
    return {"what": what, "seconds": [measure(i) for i in range(runs)]}


def help_seconds(_: int) -> float:
    """Wall time of ``hilum --help``."""
    started = time.perf_counter()
    subprocess.run([sys.executable, "-m", "hilum", "--help"], stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - started


@contextlib.contextmanager
def served(bundle: Path, data: Path) -> Iterator[tuple[str, float]]:
    """Address of ``hilum serve`` and the wall seconds from start to the first ready answer of ``/health/ready``."""
    command = [sys.executable, "-m", "hilum", "serve", str(bundle), "--port", "0", "--dicom-port", "0"]
    http = httpx.Client()  # made beforehand: loading certificates is no part of the service's start
    started = time.perf_counter()
    with (
        http,
        open(os.devnull, "w") as quiet,
        subprocess.Popen([*command, "--data", str(data)], stdout=subprocess.PIPE, stderr=quiet, text=True) as process,
    ):
        assert process.stdout is not None
        url = next(line for line in process.stdout if line.startswith("Page")).split()[3].rstrip("/")
        while http.get(f"{url}/health/ready").status_code != 200:
            time.sleep(0.01)
        try:
            yield url, time.perf_counter() - started
        finally:
            process.send_signal(signal.SIGTERM)
            process.stdout.read()


def let_in(data: Path) -> str:
    """A user of the records there, and a key of its own."""
    users = [sys.executable, "-m", "hilum", "users"]
    there = ["--data", str(data), "--json"]
    subprocess.run(
        [*users, "add", "bench", "--role", "reviewer", "--no-password", *there], stdout=subprocess.DEVNULL, check=True
    )
    made = subprocess.run([*users, "add-key", "bench", *there], stdout=subprocess.PIPE, text=True, check=True)
    key: str = json.loads(made.stdout.splitlines()[-1])["key"]
    return key


def measure(options: argparse.Namespace, save: Save) -> dict[str, Any]:
    if options.smoke:
        options.runs = 2
    rows = [times("`hilum --help`", options.runs, help_seconds)]
    with tempfile.TemporaryDirectory() as folder:
        films = Path(folder) / "films"
        generate(PhantomConfig(patients=options.runs + 3, second_film_share=0), films)
        paths = sorted(films.glob("*/*.dcm"))
        starts = []
        for i in range(options.runs):
            with served(options.bundle, Path(folder) / f"data{i}") as (_, seconds):
                starts.append(seconds)
        rows.append(times("`hilum serve`, start to ready", options.runs, lambda i: starts[i]))
        data = Path(folder) / "data"
        key = {"Authorization": f"Bearer {let_in(data)}"}
        with served(options.bundle, data) as (url, _), httpx.Client(base_url=url, headers=key, timeout=60) as http:

            def answer(i: int) -> float:
                content = paths[i + 1].read_bytes()
                started = time.perf_counter()
                reply = http.post(
                    "/api/v1/studies?wait=30", content=content, headers={"Content-Type": "application/dicom"}
                )
                seconds = time.perf_counter() - started
                assert reply.json()["state"] in ("answered", "not-analysed"), json.dumps(reply.json())
                return seconds

            http.post(
                "/api/v1/studies?wait=30", content=paths[0].read_bytes(), headers={"Content-Type": "application/dicom"}
            )
            rows.append(times("one posted 1,024² DICOM film, upload to answer", options.runs, answer))
    return {"rows": rows}


def write(measured: dict[str, Any]) -> str:
    rows = [
        [row["what"], spread([1000 * one for one in row["seconds"]], ".0f"), str(len(row["seconds"]))]
        for row in measured["rows"]
    ]
    return head(measured) + "\n" + table(["what", "ms", "runs"], rows)


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--bundle", type=Path, default=Path("demo/chest.hilum"), help="such as demo/chest.hilum")
    parser.add_argument("--runs", type=int, default=7)


if __name__ == "__main__":
    main(__doc__, measure, write, add)
