"""Films over DICOM: hilum's listener, which keeps each film durably before it answers, beside DCMTK's storescp.

The sender is DCMTK's storescu in both cases: one association, uncompressed films of 8 MB, each different. storescp is
measured as it comes, which writes without fsync and knows no records, and with a `sync` of each file by its own
`--exec-on-reception`. Hilum writes, syncs file and folder, and commits a record (SQLite, synchronous=FULL) before each
0x0000; its workers are left out, so that receiving alone is measured. Runs take turns; every run starts with an empty
folder.

python benchmarks/storescp.py                        24 films, 5 runs each
python benchmarks/storescp.py --profile              besides, where hilum's time goes, with the listener in one process
"""

import argparse
import contextlib
import io
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from _section import Save, head, main, spread, table, verdict

from hilum.imaging.dicom_writing import FilmHeader, film_bytes

SIDE = 2048
BAR = 0.5
WAYS = ("storescp", "storescp, synced", "hilum")


def films(folder: Path, number: int) -> list[Path]:
    """Different films of 2,048 × 2,048 16-bit pixels."""
    rng, paths = np.random.default_rng(0), []
    for index in range(number):
        pixels = rng.integers(0, 4096, (SIDE, SIDE)).astype(np.uint16)
        paths.append(folder / f"{index}.dcm")
        paths[-1].write_bytes(film_bytes(pixels, FilmHeader(patient_id=f"SYN{index}", age_years=50.0))[0])
    return paths


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


def answers(port: int, process: "subprocess.Popen[Any]") -> None:
    """Wait until somebody answers a C-ECHO."""
    while subprocess.run(["echoscu", "-aec", "HILUM", "127.0.0.1", str(port)], capture_output=True).returncode:
        assert process.poll() is None, "the receiver ended"
        time.sleep(0.05)


@contextlib.contextmanager
def receiver(way: str, folder: Path, profile: bool = False) -> Iterator[int]:
    """A receiver in a process of its own; its port."""
    port = free_port()
    if way == "hilum":
        command = [sys.executable, __file__, "--receive", str(folder), "--port", str(port)]
        command += ["--profile"] if profile else []
    else:
        command = ["storescp", "-aet", "HILUM", "-od", str(folder), "-pdu", "131072"]
        command += ["-xcr", "sync #p/#f", "-xs"] if "synced" in way else []
        command += [str(port)]
    with subprocess.Popen(command, stdout=None if profile else subprocess.DEVNULL) as process:
        try:
            answers(port, process)
            yield port
        finally:
            process.terminate()


def seconds(way: str, paths: Sequence[Path], where: Path, profile: bool = False) -> float:
    """Wall time in which storescu has all of them acknowledged."""
    with tempfile.TemporaryDirectory(dir=where) as folder, receiver(way, Path(folder), profile) as port:
        started = time.perf_counter()
        command = ["storescu", "-aec", "HILUM", "-pdu", "131072", "127.0.0.1", str(port), *map(str, paths)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        took = time.perf_counter() - started
        if way == "hilum":
            kept = len(list(Path(folder).rglob("*.film")))
        else:
            kept = sum(one.is_file() for one in Path(folder).iterdir())
        assert kept == len(paths), (way, kept)
        return took


def measure(options: argparse.Namespace, save: Save) -> dict[str, Any]:
    for program in ("storescu", "storescp"):
        assert shutil.which(program), "install dcmtk"
    number, runs = (2, 1) if options.smoke else (options.films, options.runs)
    rows: dict[str, list[float]] = {way: [] for way in WAYS}
    with tempfile.TemporaryDirectory(dir=options.where) as folder:
        paths = films(Path(folder), number)
        size = paths[0].stat().st_size
        for _ in range(runs):
            for way in WAYS:
                rows[way].append(seconds(way, paths, Path(folder)))
            save({"films": number, "bytes": size, "seconds": rows})
        if options.profile:
            seconds("hilum", paths, Path(folder), profile=True)
        version = subprocess.run(["storescp", "--version"], capture_output=True, text=True, check=True).stdout
    return {"films": number, "bytes": size, "seconds": rows, "dcmtk": version.split()[2]}


def write(measured: dict[str, Any]) -> str:
    took, number, size = measured["seconds"], measured["films"], measured["bytes"] / 1e6
    ours = took["hilum"]

    def row(way: str, name: str) -> list[str]:
        ratios = [other / own for other, own in zip(took[way], ours, strict=True)]
        bar = verdict(statistics.median(ratios), BAR, ".2f") if way == "storescp" else "–"
        last = ["", "–"] if way == "hilum" else [spread(ratios, ".2f"), bar]
        return [name, spread([number * size / one for one in took[way]], ".0f"), *last]

    rows = [
        row("hilum", "hilum, durable and recorded"),
        row("storescp", "storescp as it comes, nothing synced"),
        row("storescp, synced", "storescp, `sync` of each file"),
    ]
    return (
        head(measured)
        + f"\n{number} films of {size:.1f} MB by storescu (DCMTK {measured['dcmtk']}), one association, "
        + f"{len(ours)} runs in turn.\n\n"
        + table(["receiver", "MB/s", "hilum's share of its speed", "bar"], rows)
    )


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--films", type=int, default=24)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--where", type=Path, help="folder on the disk that is measured; the system's by default")
    parser.add_argument("--profile", action="store_true", help="also print where the listener's threads spend time")
    parser.add_argument("--receive", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, default=0, help=argparse.SUPPRESS)


def receive(folder: Path, port: int, profile: bool) -> None:
    """Be the listener, without workers, until terminated."""
    import signal
    import threading

    from hilum.records.database import Database
    from hilum.records.store import Store
    from hilum.service.dicom.listener import Listener
    from hilum.service.dicom.listener_process import ListenerProcess, terms_of
    from hilum.service.dicom.reception import Reception
    from hilum.service.film_files import FilmFiles
    from hilum.service.intake import Intake
    from hilum.service.settings import MIB, read_settings

    settings = read_settings(bundle=folder / "none.hilum", data=folder / "data", dicom_port=port)
    settings.data.mkdir()
    database = Database(settings.url)
    intake = Intake(
        FilmFiles(settings.data),
        Store(database),
        model_sha256="0" * 64,
        largest_bytes=settings.largest_film_mb * MIB,
        least_free_bytes=0,
        received=lambda _: None,
    )
    ended = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: ended.set())
    watched = Sampled() if profile else None
    listener: Listener | ListenerProcess
    if profile:
        listener = Listener(terms_of(settings), intake, socket.create_server(("127.0.0.1", port)))
    else:
        listener = ListenerProcess(settings, Reception(intake, lambda _: False), said=lambda _: None)
    while not ended.wait(0.005):
        if watched:
            watched.look()
    if watched:
        print(watched.text())
    listener.stop(1)
    database.close()


class Sampled:
    """Where threads are, looked at every few milliseconds: cheap, and true of all threads."""

    def __init__(self) -> None:
        self.seen: dict[str, int] = {}

    def look(self) -> None:
        for frame in sys._current_frames().values():
            names = []
            while frame is not None:
                names.append(f"{Path(frame.f_code.co_filename).stem}.{frame.f_code.co_name}")
                frame = frame.f_back
            if any(name.startswith(("dul.", "association.", "receiving.")) for name in names):
                key = " < ".join(names[:4])
                self.seen[key] = self.seen.get(key, 0) + 1

    def text(self) -> str:
        out = io.StringIO()
        for key, number in sorted(self.seen.items(), key=lambda one: -one[1])[:25]:
            print(f"{number:6} {key}", file=out)
        return out.getvalue()


if __name__ == "__main__":
    if "--receive" in sys.argv:
        parser = argparse.ArgumentParser()
        add(parser)
        given = parser.parse_args()
        receive(given.receive, given.port, given.profile)
    else:
        main(__doc__ or "", measure, write, add)
