"""The service under load: films by HTTP to recorded answers, beside the bare runtime, LitServe and plain FastAPI.

Run: python benchmarks/service_load.py --json FILE [--litserve-python VENV/bin/python]

Synthetic films of 1,024 rows and columns, 12 bits in 16 (2 MB), each of its own UID and bytes; a DenseNet-121 of 224²
with random weights, since times don't depend on them. What is compared runs in turn in one run, with the same graph and
the same number of threads, and the bare runtime before, between and after.

bare        ONNX Runtime alone in a loop on tiles that lie ready, the fastest of batches of 1, 4 and 8 that all threads
            share, and of eight films at once with a thread for each film
hilum       `hilum serve`: durable, gated, recorded, audited; the reply comes when the answer is recorded
fastapi     benchmarks/service_fastapi.py: decode, scale, run; nothing is kept
litserve    benchmarks/service_litserve.py: the same with LitServe's batching

The page's first section is measured with the distribution's Python, which the image has too
(``make install PYTHON=/usr/bin/python3``): one that was compiled without the help of profiles takes longer.

At saturation a fixed number of connections send one film after another. Core-ms are the processor time of a server's
processes, which for hilum are known apart: the model's process counts as inference, all others don't. Open loop: films
leave at random instants (Poisson) at half of the rate that hilum reached at saturation, whether or not earlier ones
were answered; a time is from the planned instant to the reply. The sender is a process of its own on the same
processors.

Before each server the disk's cache is filled up, as on a server that has run for a day: films fall into that cache, and
on a virtual machine every page that is free has first to be found by the host (4 ms a film of 2 MB were seen). Films of
all rounds stay until the end: a file system without a journal passes by every file that was deleted in the last minutes
when it makes one.
"""

import argparse
import contextlib
import http.client
import json
import mmap
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from _section import Save, head, main, spread, table, verdict

HERE = Path(__file__).parent
BARS = {"share": 0.70, "core_ms": 15.0, "p99_s": 2.0}
WAYS = ("hilum", "fastapi", "litserve")
UID = b"1.2.826.0.1.3680043.10.1.999999999"
FORM = (
    b'--films\r\nContent-Disposition: form-data; name="film"; filename="film.dcm"\r\n'
    b"Content-Type: application/dicom\r\n\r\n",
    b"\r\n--films--\r\n",
)
TICKS = os.sysconf("SC_CLK_TCK")
LEFT_FREE = 300 << 20
"""Bytes of memory that stay free when the disk's cache is filled up."""


class Films:
    """Films without end, each with a UID and bytes of its own, in a form where the server wants one."""

    def __init__(self, content: bytes, start: int, form: bool) -> None:
        content = FORM[0] + content + FORM[1] if form else content
        self._parts, self._number, self._lock = content.split(UID), start, threading.Lock()

    def next(self) -> bytes:
        with self._lock:
            self._number += 1
            number = self._number
        return (UID[:-9] + b"%09d" % number).join(self._parts)


def sent(connection: http.client.HTTPConnection, path: str, headers: dict[str, str], film: bytes) -> int:
    """Send one film; the reply's status, 0 when the server hung up."""
    try:
        connection.request("POST", path, body=film, headers=headers)
        reply = connection.getresponse()
        reply.read()
        return reply.status
    except (OSError, http.client.HTTPException):
        connection.close()
        return 0


def load(plan: dict[str, Any]) -> dict[str, Any]:
    """The sender's process: films at saturation, or at random instants."""
    films = Films(Path(plan["film"]).read_bytes(), plan["start"], "multipart" in plan["headers"]["Content-Type"])
    done: list[tuple[float, float, int]] = []
    began = time.perf_counter()
    chance = random.Random(plan["start"])
    instants: list[float] = []
    at = 0.0
    while plan["rate"] and (at := at + chance.expovariate(plan["rate"])) < plan["seconds"]:
        instants.append(at)
    waiting = iter(instants)
    lock = threading.Lock()

    def connected() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", plan["port"], timeout=120)
        connection.connect()
        while True:
            if plan["rate"]:
                with lock:
                    planned = next(waiting, None)
                if planned is None:
                    return
                time.sleep(max(0.0, began + planned - time.perf_counter()))
            else:
                planned = time.perf_counter() - began
                if planned > plan["seconds"]:
                    return
            status = sent(connection, plan["path"], plan["headers"], films.next())
            done.append((planned, time.perf_counter() - began, status))

    threads = [threading.Thread(target=connected) for _ in range(plan["connections"])]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return {"done": done, "cpu_s": time.process_time()}


def sending(plan: dict[str, Any]) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, __file__, "--load", json.dumps(plan)], stdout=subprocess.PIPE, check=True, text=True
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def tree(root: int) -> dict[int, str]:
    """Processes below one, itself included, with their command lines."""
    parents: dict[int, int] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, IndexError):
            parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
    found, more = {root}, True
    while more:
        below = {child for child, parent in parents.items() if parent in found} - found
        found, more = found | below, bool(below)
    lines: dict[int, str] = {}
    for one in found:
        with contextlib.suppress(OSError):
            lines[one] = Path(f"/proc/{one}/cmdline").read_text().replace("\0", " ")
    return lines


def part_of(line: str) -> str:
    if "model_child" in line:
        return "model"
    return "decoding" if "sandbox_child" in line else "service"


def cpu_seconds(root: int) -> dict[str, float]:
    """Processor time of a server's processes by part."""
    found: dict[str, float] = {}
    for one, line in tree(root).items():
        with contextlib.suppress(OSError):
            fields = Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split()
            part = part_of(line)
            found[part] = found.get(part, 0.0) + (int(fields[11]) + int(fields[12])) / TICKS
    return found


@contextlib.contextmanager
def hilum(bundle: Path, folder: Path, *more: str) -> Iterator[dict[str, Any]]:
    from service import let_in

    data = folder / "data"
    key = let_in(data)
    command = [sys.executable, "-m", "hilum", "serve", str(bundle), "--port", "0", "--no-dicom", "--data", str(data)]
    with (
        open(folder / "hilum.log", "w") as log,
        subprocess.Popen([*command, *more], stdout=subprocess.PIPE, stderr=log, text=True) as process,
    ):
        assert process.stdout is not None
        try:
            line = next(line for line in process.stdout if line.startswith("Page"))
            port = int(line.split()[3].rstrip("/").rpartition(":")[2])
            ready(port, "/health/ready")
            headers = {"Content-Type": "application/dicom", "Authorization": f"Bearer {key}"}
            yield {"port": port, "path": "/api/v1/studies?wait=60", "headers": headers, "pid": process.pid}
        finally:
            process.send_signal(signal.SIGTERM)
            process.stdout.read()


@contextlib.contextmanager
def other(
    python: Path, script: str, model: Path, options: argparse.Namespace, folder: Path
) -> Iterator[dict[str, Any]]:
    command = [str(python), str(HERE / script), str(model), str(options.size), str(options.threads)]
    with (
        open(folder / f"{script}.log", "w") as log,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True, start_new_session=True) as process,
    ):
        assert process.stdout is not None
        try:
            port = int(process.stdout.readline())
            ready(port, "/docs")
            form = "multipart/form-data; boundary=films"
            headers = {"Content-Type": form if "litserve" in script else "application/octet-stream"}
            yield {"port": port, "path": "/predict", "headers": headers, "pid": process.pid}
        finally:
            os.killpg(process.pid, signal.SIGKILL)


def ready(port: int, path: str, within_s: float = 120) -> None:
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError, http.client.HTTPException):
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
            connection.request("GET", path)
            if connection.getresponse().status == 200:
                return
        time.sleep(0.05)
    sys.exit(f"nothing is ready on port {port}")


def bare(model: bytes, options: argparse.Namespace) -> dict[str, Any]:
    """Images a second of the runtime alone, and its core-ms an image, at its fastest."""
    from one_pass import bare_run, films_of

    together, alone = (bare_run("onnxruntime", model, threads) for threads in (options.threads, 1))
    rows = []
    with ThreadPoolExecutor(options.threads) as pool:

        def beside(tiles: np.ndarray) -> object:
            return list(pool.map(lambda i: alone(tiles[i : i + 1]), range(len(tiles))))

        for batch, way, run in [
            (1, "shared", together),
            (4, "shared", together),
            (8, "shared", together),
            (8, "a thread each", beside),
        ]:
            tiles = films_of(batch, options.size)
            run(tiles)
            started, cpu, count = time.perf_counter(), time.process_time(), 0
            while time.perf_counter() - started < options.bare_seconds:
                run(tiles)
                count += batch
            core_ms = 1000 * (time.process_time() - cpu) / count
            rows.append(
                {"rate": count / (time.perf_counter() - started), "core_ms": core_ms, "batch": batch, "way": way}
            )
    return max(rows, key=lambda row: row["rate"])


def look(server: dict[str, Any], film: Path, start: int) -> None:
    """Send one film and see that the model answered it: what a gate refuses would cost no inference."""
    connection = http.client.HTTPConnection("127.0.0.1", server["port"], timeout=120)
    films = Films(film.read_bytes(), start, "multipart" in server["headers"]["Content-Type"])
    connection.request("POST", server["path"], body=films.next(), headers=server["headers"])
    reply = json.loads(connection.getresponse().read())
    connection.close()
    answer = reply.get("answer") or reply
    if not answer.get("probabilities"):
        sys.exit(f"the model did not answer: {json.dumps(reply)[:500]}")


def saturated(server: dict[str, Any], film: Path, options: argparse.Namespace, start: int) -> dict[str, Any]:
    """Rate and processor time with all connections busy; the first films warm it up and don't count."""
    plan = {**server, "film": str(film), "rate": 0.0, "connections": options.connections}
    look(server, film, start)
    sending({**plan, "start": start, "seconds": min(3.0, options.seconds)})
    before, started = cpu_seconds(server["pid"]), time.perf_counter()
    found = sending({**plan, "start": start + 100_000, "seconds": options.seconds})
    wall = time.perf_counter() - started
    after = cpu_seconds(server["pid"])
    good = [one for one in found["done"] if one[2] in (200, 201)]
    if not good:
        sys.exit(f"the server at {server['path']} answered no film: {found['done'][:3]}")
    last = max(end for _, end, _ in good)
    return {
        "rate": len(good) / last,
        "films": len(good),
        "others": len(found["done"]) - len(good),
        "core_ms": {part: 1000 * (after[part] - before.get(part, 0.0)) / len(good) for part in after},
        "sender_core_ms": 1000 * found["cpu_s"] / len(found["done"]),
        "wall_s": wall,
    }


def open_loop(server: dict[str, Any], film: Path, options: argparse.Namespace, rate: float) -> dict[str, Any]:
    plan = {**server, "film": str(film), "rate": rate, "connections": 4 * options.connections}
    found = sending({**plan, "start": 700_000_000, "seconds": options.open_seconds})
    times = sorted(end - planned for planned, end, status in found["done"] if status in (200, 201))
    refused = sum(status not in (200, 201) for _, _, status in found["done"])
    return {"rate": rate, "films": len(times), "refused": refused, "seconds": times}


def made(options: argparse.Namespace, work: Path) -> tuple[Path, Path, bytes]:
    """A bundle, its graph as a file, and the bare graph."""
    from one_pass import bare_graph, bundle_of, classifier_of

    from hilum.models.explained import Explained
    from hilum.models.export import export_onnx

    model = export_onnx(Explained([classifier_of(options)]))
    (work / "model.onnx").write_bytes(model)
    return bundle_of(model, options.size, work / "timed.hilum"), work / "model.onnx", bare_graph(model)


def fill_cache(path: Path) -> int:
    """Fill the memory that is free with the disk's cache of a file; how many MiB that took."""
    length = max(0, os.sysconf("SC_AVPHYS_PAGES") * mmap.PAGESIZE - LEFT_FREE) >> 20
    block = bytes(1 << 20)
    with open(path, "wb", buffering=0) as file:
        for _ in range(length):
            file.write(block)
        os.fsync(file.fileno())
    return length


def cores() -> int:
    """Cores that the system sees under all processors; two processors may be threads of one."""
    folders = Path("/sys/devices/system/cpu").glob("cpu[0-9]*/topology")
    return len({(folder / "thread_siblings_list").read_text() for folder in folders})


def film_file(work: Path, side: int) -> Path:
    from hilum.imaging.dicom_writing import FilmHeader, film_bytes

    rows, columns = np.mgrid[0:side, 0:side] / side
    ground = 2600 - 2200 * np.exp(-(((rows - 0.5) / 0.3) ** 2 + ((np.abs(columns - 0.5) - 0.22) / 0.15) ** 2))
    noisy = ground + np.random.default_rng(0).normal(0, 40, ground.shape)
    header = FilmHeader(patient_id="SYNTHETIC", age_years=50, bits_stored=12, sop_instance_uid=UID.decode())
    path = work / "film.dcm"
    path.write_bytes(film_bytes(noisy.clip(0, 4095).astype(np.uint16), header)[0])
    return path


def measure(options: argparse.Namespace, save: Save) -> dict[str, Any]:
    from hilum.inference.machine import available_cpus

    options.threads = options.threads or available_cpus()
    if options.smoke:
        options.backbone, options.size, options.side, options.rounds = "hilum_small", 64, 256, 1
        options.seconds, options.open_seconds, options.bare_seconds = 2.0, 2.0, 0.2
    found: dict[str, Any] = {
        "filled_mb": [],
        "cores": cores(),
        "about": {name: getattr(options, name) for name in ("backbone", "size", "side", "threads", "connections")},
        "bare": [],
        "saturated": {},
        "open": None,
    }
    with tempfile.TemporaryDirectory(dir=options.work) as folder:
        work = Path(folder)
        bundle, model, small = made(options, work)
        film = film_file(work, options.side)
        servers: dict[str, Callable[[Path], Any]] = {
            "hilum": lambda place: hilum(bundle, place),
            "fastapi": lambda place: other(Path(sys.executable), "service_fastapi.py", model, options, place),
        }
        if options.litserve_python:
            python = options.litserve_python
            servers["litserve"] = lambda place: other(python, "service_litserve.py", model, options, place)
        for turn in range(options.rounds):
            for name, start in servers.items():
                found["bare"].append(bare(small, options))
                place = work / f"{name}{turn}"
                place.mkdir()
                if not options.smoke:
                    found["filled_mb"].append(fill_cache(work / f"fill-{name}{turn}"))
                with start(place) as server:
                    row = saturated(server, film, options, 1_000_000 * (turn + 1))
                    found["saturated"].setdefault(name, []).append(row)
                    save(found)
                    if name == "hilum" and turn == 0:
                        found["open"] = open_loop(server, film, options, row["rate"] / 2)
        found["bare"].append(bare(small, options))
    return found


def write(found: dict[str, Any]) -> str:
    about, bare_rate = found["about"], statistics.median(row["rate"] for row in found["bare"])
    bare_ms = statistics.median(row["core_ms"] for row in found["bare"])
    rows = [["bare", spread([row["rate"] for row in found["bare"]]), "1", f"{bare_ms:.1f}", "–", "–"]]
    for name in WAYS:
        if name not in found["saturated"]:
            continue
        runs = found["saturated"][name]
        beside = [outside(name, run, bare_ms) for run in runs]
        rows.append(
            [
                name,
                spread([run["rate"] for run in runs]),
                spread([run["rate"] / bare_rate for run in runs], ".2f"),
                spread([sum(run["core_ms"].values()) for run in runs]),
                spread(beside),
                str(sum(run["others"] for run in runs)),
            ]
        )
    ours = found["saturated"]["hilum"]
    share = statistics.median(run["rate"] for run in ours) / bare_rate
    beside = statistics.median(outside("hilum", run, bare_ms) for run in ours)
    parts = {part: statistics.median(run["core_ms"][part] for run in ours) for part in ours[0]["core_ms"]}
    names = ["server", "films/s", "of bare", "core-ms a film", "of these outside inference", "not answered"]
    text = (
        f"{about['backbone']} at {about['size']}², {about['threads']} threads; films of {about['side']}² by HTTP, "
        f"{about['connections']} connections. hilum's share of the bare runtime: {share:.2f} "
        f"({verdict(share, BARS['share'], '.2f')}); core-ms a film outside inference: {beside:.1f} "
        f"({verdict(beside, BARS['core_ms'], least=False)}).\n\n{table(names, rows)}\n"
        + "hilum's processes: "
        + ", ".join(f"{part} {value:.1f}" for part, value in sorted(parts.items()))
        + f" core-ms a film; the sender takes {statistics.median(run['sender_core_ms'] for run in ours):.1f} more on "
        "the same processors. What LitServe and FastAPI do outside inference is their processor time less the bare "
        "runtime's; they keep nothing.\n"
    )
    if "filled_mb" in found:
        text += (
            "\nBefore each server the disk's cache was filled up, as on one that has run for a while "
            f"({sum(found['filled_mb']) / 1024:.0f} GiB in all). The processors are {found['cores']} cores to the "
            "system.\n"
        )
    return head(found) + "\n" + text + opened(found["open"])


def outside(name: str, run: dict[str, Any], bare_ms: float) -> float:
    """Core-ms a film beside the model."""
    parts: dict[str, float] = run["core_ms"]
    return sum(parts.values()) - (parts["model"] if name == "hilum" else bare_ms)


def opened(row: dict[str, Any] | None) -> str:
    if row is None or not row["seconds"]:
        return ""
    p50, p95, p99 = (quantile(row["seconds"], q) for q in (0.5, 0.95, 0.99))
    return (
        f"\nOpen loop at {row['rate']:.1f} films/s, half of capacity, {row['films']} films ({row['refused']} refused): "
        f"p50 {p50:.2f} s, p95 {p95:.2f} s, p99 {p99:.2f} s ({verdict(p99, BARS['p99_s'], '.1f', least=False)}).\n"
    )


def quantile(values: Sequence[float], q: float) -> float:
    return float(np.quantile(np.asarray(values), q))


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--backbone", default="densenet121")
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--side", type=int, default=1024, help="rows and columns of a film")
    parser.add_argument("--threads", type=int, default=0, help="of each server's runtime; 0: all processors")
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=30, help="of each measurement at saturation")
    parser.add_argument("--open-seconds", type=float, default=60)
    parser.add_argument("--bare-seconds", type=float, default=5)
    parser.add_argument("--litserve-python", type=Path, help="interpreter that has litserve and onnxruntime")
    parser.add_argument("--work", type=Path, help="folder for the records and films; its disk is part of what is timed")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--load"]:
        json.dump(load(json.loads(sys.argv[2])), sys.stdout)
    else:
        main(__doc__ or "", measure, write, add)
