"""`hilum predict` over many films: how near it comes to the runtime's own pace, what it costs beside it, its memory.

Run: OMP_NUM_THREADS=2 python benchmarks/predict_scale.py --json predict-scale.json

Films are synthetic phantom films as uncompressed 12-bit DICOM: ``--distinct`` different ones, hard-linked under
``--films`` names (answers go by file name, so each is read, prepared, answered and written). The network has random
weights, which change no time. The pace of the runtime is measured on prepared tiles in batches of eight, before and
after, with nothing else running. Core-milliseconds outside inference are the processor time of the whole run, children
included, less what the runtime alone takes for as many tiles.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from _section import Save, head, main, table, verdict
from one_pass import bundle_of, classifier_of, film_of, films_of

from hilum.inference.assess import MAX_BATCH
from hilum.inference.choosing import open_runtime
from hilum.inference.machine import available_cpus
from hilum.models.explained import Explained
from hilum.models.export import export_onnx

SHARE, CORE_MS, GROWTH = 0.8, 15.0, 1.05

RUN = """
import json, os, resource, sys, threading, time
from hilum.inference.predict import predict_files

def resident():
    return int(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmRSS"))) / 1024

samples, over = [], threading.Event()

def watch():
    while not over.wait(0.5):
        samples.append(resident())

threading.Thread(target=watch, daemon=True).start()
bundle, films, out, heatmaps, runtime = sys.argv[1:]
done = predict_files(bundle, [films], out, heatmaps=heatmaps == "yes", runtime=runtime)
over.set()
used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
print(json.dumps({
    "films": done.files, "answered": done.answered + done.abstained, "not_analysed": done.not_analysed,
    "refused": done.refused, "seconds": done.seconds, "core_s": sum(u.ru_utime + u.ru_stime for u in used),
    "rss_mb": samples or [resident()],
}))
"""
"""A process that answers a folder: counts, wall and processor seconds, and its resident memory twice a second."""


def runtime_pace(model: bytes, size: int, name: str, seconds: float) -> dict[str, float]:
    """Films a second and core-milliseconds a film of the runtime alone."""
    runtime = open_runtime(name, model, size=size)
    tiles = films_of(MAX_BATCH, size)
    runtime.run(tiles)
    began, used, runs = time.perf_counter(), time.process_time(), 0
    while time.perf_counter() - began < seconds or runs < 3:
        runtime.run(tiles)
        runs += 1
    films = runs * MAX_BATCH
    wall = time.perf_counter() - began
    return {"films_per_s": films / wall, "core_ms": 1000 * (time.process_time() - used) / films}


def films_in(folder: Path, count: int, distinct: int, side: int) -> None:
    """Names of films; every ``distinct``-th is another file."""
    folder.mkdir()
    for i in range(min(distinct, count)):
        (folder / f"{i:06}.dcm").write_bytes(film_of(side, "explicit-le", seed=i))
    for i in range(distinct, count):
        os.link(folder / f"{i % distinct:06}.dcm", folder / f"{i:06}.dcm")


def measure(options: argparse.Namespace, save: Save) -> dict[str, Any]:
    if options.smoke:
        options.backbone, options.size, options.films, options.distinct, options.side = "hilum_small", 64, 40, 4, 256
    found: dict[str, Any] = {
        **{key: getattr(options, key) for key in ("backbone", "size", "films", "distinct", "side", "runtime")},
        "cpus": available_cpus(),
        "runs": [],
    }
    model = export_onnx(Explained([classifier_of(options)]))
    with tempfile.TemporaryDirectory(dir=options.work) as folder:
        work = Path(folder)
        bundle = bundle_of(model, options.size, work / "timed.hilum")
        films_in(work / "films", options.films, options.distinct, options.side)
        seconds = 0.5 if options.smoke else 10.0
        found["before"] = runtime_pace(model, options.size, options.runtime, seconds)
        for heatmaps in ("no", "yes"):
            command = [sys.executable, "-c", RUN, str(bundle), str(work / "films"), str(work / heatmaps), heatmaps]
            done = subprocess.run([*command, options.runtime], stdout=subprocess.PIPE, text=True, check=True)
            found["runs"].append({"heatmaps": heatmaps, **json.loads(done.stdout.splitlines()[-1])})
            save(found)
        found["after"] = runtime_pace(model, options.size, options.runtime, seconds)
    return found


def write(found: dict[str, Any]) -> str:
    pace = statistics.mean(found[when]["films_per_s"] for when in ("before", "after"))
    alone = statistics.mean(found[when]["core_ms"] for when in ("before", "after"))
    rows = []
    for run in found["runs"]:
        films_per_s = run["films"] / run["seconds"]
        outside = 1000 * run["core_s"] / run["films"] - alone
        memory = run["rss_mb"]
        early, late = memory[len(memory) // 4], max(memory[len(memory) // 4 :])
        rows.append(
            [
                run["heatmaps"],
                f"{run['seconds']:.0f}",
                f"{films_per_s:.1f}",
                f"{films_per_s / pace:.0%}",
                verdict(films_per_s / pace, SHARE, ".0%"),
                f"{outside:.1f}",
                verdict(outside, CORE_MS, ".0f", least=False),
                f"{early:.0f} → {late:.0f}",
                verdict(late / early, GROWTH, ".2f", least=False),
            ]
        )
    first = found["runs"][0]
    words = (
        f"{found['films']:,} files ({found['distinct']} different phantom films of {found['side']}², synthetic), "
        f"{found['backbone']} at {found['size']}², {found['runtime']} in fp32, {found['cpus']} CPUs; "
        f"{first['answered']:,} answered, {first['not_analysed']:,} not analysed, {first['refused']:,} refused. The "
        f"runtime alone: {pace:.1f} films/s, {alone:.1f} core-ms a film.\n\n"
    )
    columns = ["heat maps", "seconds", "films/s", "of the runtime's pace", "bar", "core-ms outside inference", "bar"]
    columns += ["resident MB, a quarter in → most", "bar"]
    return f"{head(found)}\n{words}{table(columns, rows)}"


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--backbone", default="densenet121")
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--films", type=int, default=10_000)
    parser.add_argument("--distinct", type=int, default=200)
    parser.add_argument("--side", type=int, default=1024)
    parser.add_argument("--runtime", default="onnxruntime")
    parser.add_argument("--work", type=Path, help="folder for films and answers (about 2 MB a different film)")


if __name__ == "__main__":
    main(__doc__ or "", measure, write, add)
