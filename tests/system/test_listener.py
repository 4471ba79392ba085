"""The DICOM listener's process is killed while storescu sends, and given more than its memory holds: films get in."""

import contextlib
import os
import random
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from sqlalchemy import text
from tests.service.conftest import let_in, settings_in
from tests.service.hostile import DATA, associate, command, listener_of, pdu, pdv, received, resident_mb
from tests.service.small import CR, SmallDrawing, SmallModel, dicom
from tests.service.test_dicom import port_of, still_serves

from hilum.records.audit import check, entries
from hilum.service.app import Running, running

pytestmark = pytest.mark.system

SIDE, FILMS, KILLS = 1024, 30, 4


@pytest.fixture
def films(tmp_path: Path) -> list[Path]:
    """Synthetic, 1 MiB each, so that a film takes a while."""
    paths = []
    for number in range(FILMS):
        paths.append(tmp_path / f"{number}.dcm")
        pixels = bytes([number + 1]) * (SIDE * SIDE)
        paths[-1].write_bytes(dicom(number + 1, Rows=SIDE, Columns=SIDE, PixelData=pixels))
    return paths


@contextlib.contextmanager
def killing(service: Running, chance: random.Random, killed: list[int]) -> Iterator[None]:
    """Kill the listener's process again and again, each time as soon as it was there for a random while."""
    ended = threading.Event()

    def kill() -> None:
        listener = service.room.listener
        assert listener is not None
        while len(killed) < KILLS and not ended.is_set():
            if listener.ready:
                ended.wait(chance.uniform(0.05, 0.6))
                process = listener.process_id
                if process is not None and process not in killed:
                    os.kill(process, signal.SIGKILL)
                    killed.append(process)
            ended.wait(0.01)

    thread = threading.Thread(target=kill)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


@pytest.mark.timeout(1200)
def test_killed_while_films_come_in(tmp_path: Path, films: list[Path], need: Callable[[object, str], None]) -> None:
    need(shutil.which("storescu"), "DCMTK (storescu)")
    settings, killed, tries = settings_in(tmp_path, dicom_port=0), list[int](), 0
    deadline = time.monotonic() + 900
    with running(settings, answering=SmallModel(), drawing=SmallDrawing()) as service:
        command = ["storescu", "-aec", "HILUM", "127.0.0.1", str(service.dicom_port), *map(str, films)]
        headers, well = let_in(service), False
        with killing(service, random.Random(1), killed):
            while not well or len(killed) < KILLS:
                well = subprocess.run(command, capture_output=True, timeout=240).returncode == 0
                tries += 1
                assert time.monotonic() < deadline, (tries, killed)
                reply = httpx.get(f"{service.url}/api/v1/studies", headers=headers, timeout=240)
                assert reply.status_code == 200, "the rest of the service goes on"
        while set(service.room.store.counts()) != {"answered"}:
            assert time.monotonic() < deadline, service.room.store.counts()
            time.sleep(0.05)
        listener = service.room.listener
        assert listener is not None
        while listener.restarts < KILLS:  # the last kill may be followed by a pause of several seconds
            assert time.monotonic() < deadline, (listener.restarts, killed)
            time.sleep(0.05)
        assert not list(service.room.intake.files.incoming.iterdir()), "nothing half is left"
        with service.room.database.read() as session:
            answered = session.execute(text("SELECT film_id FROM answers")).scalars().all()
            rows = entries(session)
        assert len(answered) == len(set(answered)) == FILMS
        assert check(rows).whole
        assert sum(row.act == "film.received" for row in rows) == FILMS
    print(f"{len(killed)} kills, {tries} tries, {FILMS} films")


@pytest.mark.timeout(1200)
def test_peers_that_send_more_than_its_memory_holds(tmp_path: Path) -> None:
    """Six films of 120 MB at once into 256 MB: those that find no room are cut off, a small one gets in meanwhile."""
    settings = settings_in(tmp_path, dicom_port=0, listener_memory_mb=256)
    with running(settings, answering=SmallModel(), drawing=SmallDrawing()) as service:
        assert still_serves(service)
        process = listener_of(service)
        with ThreadPoolExecutor(6) as pool:
            big = [pool.submit(bloat, port_of(service)) for _ in range(6)]
            most = resident_mb(process)
            while not all(one.done() for one in big):
                most = max(most, resident_mb(process))
                reply = httpx.get(f"{service.url}/health/live", timeout=240)
                assert reply.status_code == 200
                time.sleep(0.05)
        assert sum(one.result() for one in big) < 6, "not all of them find room"
        assert most < 600, most
        assert still_serves(service)
        assert listener_of(service) == process, "it was not even ended"
        command = ["storescu", "-aec", "HILUM", "127.0.0.1", str(service.dicom_port), str(tmp_path / "small.dcm")]
        (tmp_path / "small.dcm").write_bytes(dicom(1))
        assert subprocess.run(command, timeout=240).returncode == 0
        print(f"{sum(one.result() for one in big)} of 6 found room, {most:.0f} MB")


def bloat(port: int) -> bool:
    """Send a film of 120 MB; was it taken?"""
    fragment = pdu(DATA, pdv(1, 0, b"x" * 250_000))
    with socket.create_connection(("127.0.0.1", port), timeout=60) as peer:
        peer.sendall(associate([(1, 1)]))
        received(peer)
        try:
            peer.sendall(pdu(DATA, pdv(1, 3, command(CR, b"1.2.3"))))
            for _ in range(480):
                peer.sendall(fragment)
            peer.sendall(pdu(DATA, pdv(1, 2, b"x")))
            received(peer)
        except (OSError, AssertionError):
            return False
    return True
