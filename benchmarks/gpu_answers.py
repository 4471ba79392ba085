"""One GPU beside the processors of its machine: the graph, a film by HTTP to its recorded answer, and saturation.

Run: python benchmarks/gpu_answers.py --json FILE      (needs a GPU; --runtime onnxruntime rehearses it on the CPU)

A DenseNet-121 of 224² with random weights, since times don't depend on them, three findings, fp32 without TF32.

graph       milliseconds of a run on tiles that lie ready, outputs read back, each batch size in a session of its own:
            bare (logits alone) and whole (every output), in turn within each repeat; and hilum's runtime around it
sizes       batches of 1 and 8 by turns, in one session for both and in one for each
alone       `hilum serve`, synthetic films of 1,024² by HTTP, one after the other, to the recorded answer
saturated   the same with a fixed number of connections; core-ms are the processor time of the service's processes
apart       largest difference of each output from the CPU's, absolute up to 1, relative beyond: of a graph whose
            normalisations have seen films, since random weights alone make logits of millions
"""

import argparse
import contextlib
import http.client
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from _section import Save, head, in_turn, main, spread, table, verdict
from one_pass import classifier_of, films_of, ratios
from service_load import Films, film_file, hilum, look, made, quantile, saturated, sent

from hilum.bundle.schema import OUTPUTS
from hilum.errors import HilumError
from hilum.inference import cuda
from hilum.inference.choosing import CUDA, DEFAULT, open_runtime
from hilum.inference.machine import available_cpus
from hilum.inference.runtimes import open_session, session_options
from hilum.models.export import INPUT

P99_MS = 300.0
BATCHES = (1, 8, 32)

Run = Callable[[np.ndarray], object]


def raw(runtime: str, model: bytes, outputs: list[str], threads: int) -> Run:
    """A session of ONNX Runtime with the settings that hilum gives it, and nothing around it."""
    options, providers = session_options(threads), list[Any](["CPUExecutionProvider"])
    if runtime == CUDA:
        options.use_deterministic_compute = True
        providers.insert(0, (cuda.PROVIDER, cuda.OPTIONS))
    session = open_session(model, options, providers, runtime)
    return lambda tiles: session.run(outputs, {INPUT: tiles})


def graphs(runtime: str, model: bytes, bare: bytes, options: argparse.Namespace) -> dict[str, Any]:
    """Milliseconds by batch, of the bare graph, the whole one, and hilum's runtime."""
    ours = open_runtime(runtime, model, options.threads, size=options.size)
    rows = []
    for batch in BATCHES:
        tiles = np.resize(films_of(8, options.size), (batch, 1, options.size, options.size))
        opened = {
            "bare": raw(runtime, bare, ["logits"], options.threads),
            "whole": raw(runtime, model, list(OUTPUTS), options.threads),
            "hilum": ours.run,
        }
        ways = {name: (lambda run=run, t=tiles: run(t)) for name, run in opened.items()}
        few = options.repeats if runtime == CUDA else max(3, options.repeats // (2 * batch))
        rows.append({"batch": batch, **in_turn(ways, few, warm=3)})
    return {"name": ours.name, "threads": ours.threads, "rows": rows}


def by_turns(runtime: str, model: bytes, options: argparse.Namespace) -> dict[str, list[float]]:
    """Milliseconds of a batch of 1 and one of 8, one after the other."""
    few, many = films_of(1, options.size), films_of(8, options.size)
    both, one, eight = (raw(runtime, model, list(OUTPUTS), options.threads) for _ in range(3))
    ways = {"one for both": lambda: (both(few), both(many)), "one for each": lambda: (one(few), eight(many))}
    return in_turn(ways, max(3, options.repeats // 2), warm=3)


def normalised(options: argparse.Namespace) -> bytes:
    """The whole graph with random weights and normalisations that have seen films."""
    import torch

    from hilum.models.explained import Explained
    from hilum.models.export import export_onnx

    network, films = classifier_of(options).train(), torch.from_numpy(films_of(20, options.size))
    with torch.no_grad():
        for _ in range(20):
            network(films)
    return export_onnx(Explained([network.eval()]))


def apart(runtime: str, options: argparse.Namespace) -> dict[str, Any]:
    """Largest difference of each output from the CPU's."""
    model, tiles = normalised(options), films_of(options.films, options.size)
    ours, theirs = (
        open_runtime(one, model, options.threads, size=options.size).run(tiles) for one in (runtime, DEFAULT)
    )
    found = {n: float(np.max(np.abs(ours[n] - theirs[n]) / np.maximum(1.0, np.abs(theirs[n])))) for n in OUTPUTS}
    same = int(np.sum(ours.logits.argmax(1) == theirs.logits.argmax(1)))
    return {"films": len(tiles), "same_label": same, "differences": found}


def served(runtime: str, bundle: Path, film: Path, work: Path, options: argparse.Namespace) -> dict[str, Any]:
    """One film after the other, then saturation."""
    place = work / runtime
    place.mkdir()
    found: dict[str, Any] = {}
    started = time.perf_counter()
    with hilum(bundle, place, "--runtime", runtime) as server:
        found["start_s"] = time.perf_counter() - started
        look(server, film, 10_000_000)
        films, times, refused = Films(film.read_bytes(), 20_000_000, False), [], 0
        connection = http.client.HTTPConnection("127.0.0.1", server["port"], timeout=120)
        for _ in range(options.alone):
            content, began = films.next(), time.perf_counter()
            status = sent(connection, server["path"], server["headers"], content)
            times.append(time.perf_counter() - began)
            refused += status not in (200, 201)
        connection.close()
        found |= {"alone_s": times, "refused": refused, "saturated": []}
        for turn, connections in enumerate(options.connections):
            load = argparse.Namespace(connections=connections, seconds=options.seconds)
            row = saturated(server, film, load, 30_000_000 + turn * 1_000_000)
            found["saturated"].append({"connections": connections, **row})
        found["gpu_memory_mb"] = gpu_memory_mb() if runtime == CUDA else None
    shutil.rmtree(place)
    return found


def gpu_memory_mb() -> int | None:
    """Memory of the GPU in use, as its driver's tool says it."""
    command = ["nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits"]
    with contextlib.suppress(OSError, ValueError, subprocess.SubprocessError):
        return int(subprocess.run(command, capture_output=True, text=True, timeout=20).stdout.split()[0])
    return None


def measure(options: argparse.Namespace, save: Save) -> dict[str, Any]:
    options.threads = options.threads or available_cpus()
    if options.smoke:
        options.backbone, options.size, options.side, options.repeats = "hilum_small", 64, 256, 3
        options.seconds, options.alone, options.films, options.connections = 1.0, 5, 8, [4]
    found: dict[str, Any] = {
        name: getattr(options, name) for name in ("backbone", "size", "side", "threads", "runtime")
    }
    try:
        found["gpu"] = None
        if options.runtime == CUDA:
            gpu = cuda.find_gpu()
            found["gpu"] = f"{gpu.name}, {gpu.memory_mb:,} MiB, driver for CUDA {gpu.cuda}"
            cuda._load_libraries()
        with tempfile.TemporaryDirectory(dir=options.work) as folder:
            work = Path(folder)
            bundle, model_file, bare = made(options, work)
            model, film = model_file.read_bytes(), film_file(work, options.side)
            found |= {"graph": {}, "served": {}}
            found["apart"] = apart(options.runtime, options)
            found["sizes"] = by_turns(options.runtime, model, options)
            for runtime in (options.runtime, DEFAULT):
                found["graph"][runtime] = graphs(runtime, model, bare, options)
                save(found)
            for runtime in dict.fromkeys((options.runtime, DEFAULT)):
                found["served"][runtime] = served(runtime, bundle, film, work, options)
                save(found)
    except HilumError as error:
        sys.exit(str(error))
    return found


def write(found: dict[str, Any]) -> str:
    subject = (
        f"{found['gpu'] or 'No GPU: a rehearsal on the CPU'}; {found['threads']} threads of the CPU's runtime. "
        f"{found['backbone']} at {found['size']}², random weights, fp32 without TF32; synthetic films of "
        f"{found['side']}². Milliseconds: median (smallest–largest).\n\n"
    )
    return f"{head(found)}\n{subject}" + "\n".join(part(found) for part in (_graphs, _served, _apart))


def _graphs(found: dict[str, Any]) -> str:
    rows = []
    for part in found["graph"].values():
        for row in part["rows"]:
            shown = (spread(row["bare"]), spread(row["whole"]), spread(ratios(row["whole"], row["bare"]), ".2f"))
            rate = 1000 * row["batch"] / statistics.median(row["hilum"])
            rows.append([part["name"], str(row["batch"]), *shown, spread(row["hilum"]), f"{rate:,.0f}"])
    columns = ["runtime", "batch", "bare, ms", "whole, ms", "whole / bare", "hilum's runtime, ms", "its films/s"]
    sizes = found["sizes"]
    return (
        f"### The graph\n\n{table(columns, rows)}\nA batch of 1 and one of 8 by turns: {spread(sizes['one for both'])} "
        f"ms in one session for both, {spread(sizes['one for each'])} ms in one for each.\n"
    )


def _served(found: dict[str, Any]) -> str:
    alone, busy, notes = [], [], []
    for runtime, part in found["served"].items():
        p50, p95, p99 = (1000 * quantile(part["alone_s"], q) for q in (0.5, 0.95, 0.99))
        bar = verdict(p99, P99_MS, ".0f", least=False)
        counts = (str(len(part["alone_s"])), str(part["refused"]))
        alone.append([runtime, *counts, f"{p50:.0f}", f"{p95:.0f}", f"{p99:.0f}", bar])
        for row in part["saturated"]:
            core = row["core_ms"]
            parts = ", ".join(f"{name} {value:.1f}" for name, value in sorted(core.items()))
            shown = (f"{row['rate']:.1f}", f"{sum(core.values()):.1f}", parts, str(row["others"]))
            busy.append([runtime, str(row["connections"]), *shown])
        memory = f", {part['gpu_memory_mb']:,} MiB of the GPU in use" if part["gpu_memory_mb"] else ""
        notes.append(f"{runtime} had made its user and was ready after {part['start_s']:.1f} s{memory}")
    columns = ["runtime", "films", "refused", "p50, ms", "p95, ms", "p99, ms", "bar"]
    more = ["runtime", "connections", "films/s", "core-ms a film", "of these", "not answered"]
    return (
        f"### A film by HTTP to its recorded answer\n\n{table(columns, alone)}\n### Saturated\n\n{table(more, busy)}\n"
        f"{'; '.join(notes)}. The sender takes part of the same processors.\n"
    )


def _apart(found: dict[str, Any]) -> str:
    if "apart" not in found:
        return "The kept numbers hold no comparison with the CPU's answers.\n"
    part = found["apart"]
    rows = [[name, f"{value:.1e}"] for name, value in part["differences"].items()]
    return (
        f"### Beside the CPU's answers\n\n{part['same_label']} of {part['films']} films have the same likeliest "
        f"finding.\n\n{table(['output', 'largest difference'], rows)}"
    )


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--runtime", choices=[CUDA, DEFAULT], default=CUDA)
    parser.add_argument("--backbone", default="densenet121")
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--side", type=int, default=1024, help="rows and columns of a film")
    parser.add_argument("--threads", type=int, default=0, help="of the CPU's runtime; 0: all processors")
    parser.add_argument("--connections", type=int, nargs="+", default=[16, 64])
    parser.add_argument("--repeats", type=int, default=30, help="runs of a batch")
    parser.add_argument("--alone", type=int, default=200, help="films one after the other")
    parser.add_argument("--seconds", type=float, default=8, help="of each measurement at saturation")
    parser.add_argument("--films", type=int, default=64, help="whose answers are compared")
    parser.add_argument("--work", type=Path, help="folder for the records and films; its disk is part of what is timed")


if __name__ == "__main__":
    main(__doc__ or "", measure, write, add)
