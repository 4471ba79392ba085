"""Kills a service often, at named points and at random: ``python -m tests.service.killed_often URL DATA COUNT SEED``.

One process forks a child for each life of the service; a child sends films to itself until it is killed, and tells each
acknowledgement through a pipe. At the end one child lives until all is answered. Prints what it found as JSON.
"""

import contextlib
import json
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from tests.service.small import SmallModel, as_png

from hilum.records.database import Database
from hilum.records.store import Store
from hilum.service.film_files import FilmFiles
from hilum.service.intake import Intake
from hilum.service.workflow import Workflow

POINTS = ("write", "fsync", "rename", "commit", "ack", "prepare", "record", "announce", "random")
LEASE_S = 0.3


def film(number: int) -> bytes:
    """A PNG of its own for each number."""
    return as_png(np.frombuffer(random.Random(number).randbytes(256), np.uint8).reshape(16, 16) | 1)


def killer(name: str, times: int) -> Callable[[str], None]:
    """Ends the process, as ``kill -9`` does, when a point is met for the given time."""
    left = [times]

    def point(at: str) -> None:
        if at == name:
            left[0] -= 1
            if left[0] <= 0:
                os.kill(os.getpid(), signal.SIGKILL)

    return point


def live(url: str, data: Path, first: int, told: int, point: Callable[[str], None], films: int) -> None:
    """One life: send films from a number on, each followed by one that was sent before; then work until all is done."""
    database = Database(url)
    store, files, model = Store(database), FilmFiles(data), SmallModel()
    if database.is_sqlite:
        store.release()
    workflow = Workflow(store, files, model, finished=lambda _: None, hands=2, lease_s=LEASE_S, point=point)
    intake = Intake(
        files,
        store,
        model_sha256=model.model.sha256,
        largest_bytes=1 << 20,
        least_free_bytes=0,
        received=workflow.wake,
        offered=workflow.offered,
        point=point,
    )
    workflow.start()
    for number in range(first, first + films):
        for same in (number, max(0, number - 7)):
            with intake.begin() as arrival:
                arrival.write(film(same))
                receipt = arrival.finish(origin="rest")
            os.write(told, f"{receipt.film_id}\n".encode())
    while any(store.counts().get(state) for state in ("received", "preparing")):
        time.sleep(0.02)
    workflow.stop(5)
    database.close()


def forked(life: Callable[[int], None]) -> tuple[int, int]:
    """Start a life; its process id, and where its acknowledgements are read."""
    ear, told = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(ear)
        with contextlib.suppress(BaseException):
            life(told)
            os._exit(0)
        os._exit(1)
    os.close(told)
    return child, ear


def heard(ear: int) -> set[str]:
    """Acknowledgements of a life that has ended."""
    with os.fdopen(ear, "rb") as pipe:
        lines = pipe.read().splitlines(keepends=True)
    return {line.decode().strip() for line in lines if line.endswith(b"\n")}


def kill_often(url: str, data: Path, count: int, seed: int) -> dict[str, object]:
    """All lives, one after another."""
    chance, acknowledged, killed, number = random.Random(seed), set[str](), 0, 0
    for i in range(count):
        name = POINTS[i % len(POINTS)]
        point = killer(name, chance.randint(1, 6))
        start = number
        child, ear = forked(lambda told, start=start, point=point: live(url, data, start, told, point, films=8))
        if name == "random":
            time.sleep(chance.uniform(0.0, 0.06))
            os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        killed += os.WIFSIGNALED(status)
        told = heard(ear)
        acknowledged |= told
        number += len(told) // 2
    child, ear = forked(lambda told: live(url, data, number, told, lambda _: None, films=1))
    _, status = os.waitpid(child, 0)
    return {
        "killed": killed,
        "ended_well": status == 0,
        "acknowledged": sorted(acknowledged | heard(ear)),
    }


if __name__ == "__main__":
    print(json.dumps(kill_often(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))))
