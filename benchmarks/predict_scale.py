"""`hilum predict` over many films: how near it comes to the runtime's own pace, what it costs beside it, its memory.

Run: OMP_NUM_THREADS=2 python benchmarks/predict_scale.py --json predict-scale.json

Films are synthetic phantom films as uncompressed 12-bit DICOM: ``--distinct`` different ones, hard-linked under
``--films`` names (answers go by file name, so each is read, prepared, answered and written). The network has random
weights, which change no time. The pace of the runtime is measured on prepared tiles in batches of eight, before and
after, with nothing else running. Core-milliseconds outside inference are the processor time of the whole run, children
included, less what the runtime alone takes for as many tiles. The run without heat maps has a tenth of the films, since
it is there to be compared; 10,000 with DenseNet-121 take about 7 to 10 minutes on two cores, and the other about one.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from _one_film import film_of
from _section import Save, head, main, table, verdict
from one_pass import bundle_of, classifier_of, films_of

from hilum.inference.assess import MAX_BATCH
from hilum.inference.choosing import open_runtime
from hilum.inference.machine import available_cpus
from hilum.models.explained import Explained
from hilum.models.export import export_onnx

SHARE, CORE_MS, GROWTH = 0.8, 15.0, 1.05
ANSWERING = 0.97
"""Share of a run in which films are answered, at least; then come the tables."""

RUN = """
import json, os, resource, sys, threading, time
from hilum.inference import assess, predict
from hilum.inference.predict import predict_files

def resident():
    return int(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmRSS"))) / 1024

samples, over = [], threading.Event()
spent = {}

def clocked(owner, name, key):
    function = getattr(owner, name)

    def call(*args, **keywords):
        began, used = time.perf_counter(), time.thread_time()
        try:
            return function(*args, **keywords)
        finally:
            wall, own = spent.get(key, (0.0, 0.0))
            spent[key] = wall + time.perf_counter() - began, own + time.thread_time() - used

    setattr(owner, name, call)

def watch():
    while not over.wait(0.5):
        samples.append(resident())

threading.Thread(target=watch, daemon=True).start()
bundle, films, out, heatmaps, runtime = sys.argv[1:]
clocked(predict._Writer, "_picture", "pictures")
clocked(predict._Writer, "_write", "writing")
clocked(assess.Assessor, "assess_prepared", "answering")
done = predict_files(bundle, [films], out, heatmaps=heatmaps == "yes", runtime=runtime)
over.set()
used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
print(json.dumps({
    "films": done.files, "answered": done.answered + done.abstained, "not_analysed": done.not_analysed,
    "refused": done.refused, "seconds": done.seconds, "core_s": sum(u.ru_utime + u.ru_stime for u in used),
    "children_s": used[1].ru_utime + used[1].ru_stime, "spent": spent, "rss_mb": samples or [resident()],
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
        films_in(work / "fewer", max(1, options.films // 10), options.distinct, options.side)
        seconds = 0.5 if options.smoke else 10.0
        found["before"] = runtime_pace(model, options.size, options.runtime, seconds)
        for heatmaps, films in (("no", "fewer"), ("yes", "films")):
            command = [sys.executable, "-c", RUN, str(bundle), str(work / films), str(work / heatmaps), heatmaps]
            done = subprocess.run([*command, options.runtime], stdout=subprocess.PIPE, text=True, check=True)
            found["runs"].append({"heatmaps": heatmaps, **json.loads(done.stdout.splitlines()[-1])})
            save(found)
        found["after"] = runtime_pace(model, options.size, options.runtime, seconds)
    return found


def write(found: dict[str, Any]) -> str:
    pace = statistics.mean(found[when]["films_per_s"] for when in ("before", "after"))
    alone = statistics.mean(found[when]["core_ms"] for when in ("before", "after"))
    rows, pieces = [], []
    for run in found["runs"]:
        # The smaller run carries the start of the processes on fewer films, so that the bars don't fit it.
        judged: Callable[..., str] = verdict if run["films"] == found["films"] else lambda *_, **__: "none"
        films_per_s = run["films"] / run["seconds"]
        outside = 1000 * run["core_s"] / run["films"] - alone
        memory = run["rss_mb"]
        # The last samples are of the tables, which are made when all films are answered, from groups of lines.
        films_until = max(1, int(ANSWERING * len(memory)))
        early, late = memory[films_until // 4], max(memory[films_until // 4 : films_until])
        parts = (run["children_s"], *(run["spent"][name][1] for name in ("pictures", "writing")))
        spent = [1000 * one / run["films"] for one in (*parts, run["spent"]["answering"][0])]
        pieces.append([run["heatmaps"], *(f"{one:.1f}" for one in spent)])
        rows.append(
            [
                run["heatmaps"],
                f"{run['films']:,}",
                f"{run['seconds']:.0f}",
                f"{films_per_s:.1f}",
                f"{films_per_s / pace:.0%}",
                judged(films_per_s / pace, SHARE, ".0%"),
                f"{outside:.1f}",
                judged(outside, CORE_MS, ".0f", least=False),
                f"{early:.0f} → {late:.0f} ({max(memory):.0f})",
                judged(late / early, GROWTH, ".2f", least=False),
            ]
        )
    first = found["runs"][-1]
    words = (
        f"{found['films']:,} files ({found['distinct']} different phantom films of {found['side']}², synthetic), "
        f"{found['backbone']} at {found['size']}², {found['runtime']} in fp32, {found['cpus']} CPUs; "
        f"{first['answered']:,} answered, {first['not_analysed']:,} not analysed, {first['refused']:,} refused. The "
        f"runtime alone: {pace:.1f} films/s, {alone:.1f} core-ms a film.\n\n"
    )
    columns = [
        "heat maps",
        "files",
        "seconds",
        "films/s",
        "of the runtime's pace",
        "bar",
        "core-ms outside inference",
        "bar",
    ]
    columns += ["resident MB, a quarter in → most (tables at the end)", "bar"]
    about = (
        "\nWhere it goes, milliseconds a film: processor time of the children that decode and prepare, of drawing and "
        "packing heat maps and of writing lines, and the clock of answering, during which the others run too.\n\n"
    )
    apart = table(["heat maps", "preparing", "heat maps drawn", "writing", "answering (clock)"], pieces)
    return f"{head(found)}\n{words}{table(columns, rows)}{about}{apart}"


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
