"""Ten times what it can answer, through both doors: it refuses, keeps its memory, and is itself again in 5 s."""

import os
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from pynetdicom import AE
from tests.service.small import CR, dataset, dicom

ROOT = Path(__file__).parents[2]
DELAY_S, MOST_WAITING = 0.8, 20
"""A batch of eight takes so long: about 10 films a second."""
CAPACITY = 8 / DELAY_S
REST_SENDERS, DICOM_SENDERS = 6, 2
GROWTH_MB = 150


@pytest.fixture
def slow(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], str, str, int]]:
    """A service as a process of its own, on a model that takes its time."""
    command = [sys.executable, "-m", "tests.service.serve_small", str(tmp_path), str(DELAY_S), "dicom"]
    environment = {**os.environ, "HILUM_MOST_WAITING": str(MOST_WAITING)}
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        url, key, port = process.stdout.readline().split()
        try:
            yield process, url, key, int(port)
        finally:
            process.kill()


def memory_mb(process: subprocess.Popen[str]) -> float:
    lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1024


def overload(slow: tuple[subprocess.Popen[str], str, str, int], seconds: float) -> Counter[str]:
    """Send for so long as fast as the senders can, and at least ten times its rate; what they were told."""
    process, url, key, port = slow
    told: Counter[str] = Counter()
    acknowledged: list[str] = []
    numbers, lock = iter(range(10_000_000)), threading.Lock()
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/dicom"}
    stop = time.monotonic() + seconds

    def note(what: str) -> None:
        with lock:
            told[what] += 1

    def number() -> int:
        with lock:
            return next(numbers)

    def by_rest() -> None:
        with httpx.Client(base_url=url, headers=headers, timeout=30) as http:
            while time.monotonic() < stop:
                reply = http.post("/api/v1/studies", content=dicom(number(), 100))
                note(str(reply.status_code))
                if reply.status_code == 201:
                    acknowledged.append(reply.json()["id"])
                elif reply.status_code in (429, 503):
                    assert int(reply.headers["Retry-After"]) > 0

    def by_dicom() -> None:
        entity = AE(ae_title="FLOOD")
        entity.add_requested_context(CR)
        association = entity.associate("127.0.0.1", port, ae_title="HILUM")
        while time.monotonic() < stop and association.is_established:
            note(f"0x{association.send_c_store(dataset(number(), 100)).get('Status', 0xFFFF):04X}")
        assert association.is_established
        association.release()

    with httpx.Client(base_url=url, headers=headers, timeout=30) as http:
        before = memory_mb(process)
        most = [before]
        threads = [threading.Thread(target=by_rest) for _ in range(REST_SENDERS)]
        threads += [threading.Thread(target=by_dicom) for _ in range(DICOM_SENDERS)]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            most.append(memory_mb(process))
            assert http.get("/health/live").status_code == 200
            time.sleep(0.2)
        for thread in threads:
            thread.join()
        ended = time.monotonic()
        reply = None
        while reply is None or reply.status_code == 429:
            time.sleep(0.1)
            reply = http.post("/api/v1/studies", content=dicom(number(), 100), params={"wait": 20})
        assert reply.json()["state"] == "answered", reply.text
        normal_s = time.monotonic() - ended
        assert process.poll() is None
        for film_id in acknowledged:
            assert http.get(f"/api/v1/studies/{film_id}", params={"wait": 20}).json()["state"] == "answered"
        told["seconds"], told["normal again, ms"] = round(seconds), round(1000 * normal_s)
        told["grew, MB"] = round(max(most) - before)
    return told


def judge(told: Counter[str], seconds: float) -> None:
    sent = sum(count for what, count in told.items() if what[0] in "245" or what.startswith("0x"))
    assert set(told) <= {"201", "429", "503", "0x0000", "0xA700", "seconds", "normal again, ms", "grew, MB"}, told
    assert told["429"] > 0, told
    assert told["0xA700"] > 0, told
    assert told["grew, MB"] < GROWTH_MB, told
    assert told["normal again, ms"] < 5_000, told
    print(f"{sent / seconds:.0f} films/s were sent, about {CAPACITY:.0f} can be answered: {dict(told)}")


@pytest.mark.system
def test_a_few_seconds_of_ten_times_its_rate(slow: tuple[subprocess.Popen[str], str, str, int]) -> None:
    judge(overload(slow, 8), 8)


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_ten_minutes_of_ten_times_its_rate(
    slow: tuple[subprocess.Popen[str], str, str, int], counted: Callable[[int], int]
) -> None:
    seconds = counted(600)
    judge(overload(slow, seconds), seconds)
