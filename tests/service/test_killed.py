"""What was acknowledged before ``kill -9`` is answered exactly once after it."""

import contextlib
import random
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.service.small import png

ROOT = Path(__file__).parents[2]


@contextlib.contextmanager
def started(folder: Path, delay_s: float) -> Iterator[tuple[dict[str, Any], subprocess.Popen[str]]]:
    command = [sys.executable, "-m", "tests.service.serve_small", str(folder), str(delay_s)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        try:
            url, key = process.stdout.readline().split()
            yield {"base_url": url, "headers": {"Authorization": f"Bearer {key}"}}, process
        finally:
            process.kill()


def send_until_gone(address: dict[str, Any], levels: list[int], acknowledged: set[str]) -> None:
    with httpx.Client(timeout=90, **address) as http, contextlib.suppress(httpx.HTTPError):
        for level in levels:
            reply = http.post("/api/v1/studies", content=png(level), headers={"Content-Type": "image/png"})
            if reply.is_success:
                acknowledged.add(reply.json()["id"])


@pytest.mark.parametrize("seed", [0])
def test_nothing_acknowledged_is_lost_and_nothing_is_answered_twice(tmp_path: Path, seed: int) -> None:
    """Killed once while it answers slowly and once while films pour in; then left to finish."""
    chance, acknowledged = random.Random(seed), set[str]()
    for start, delay_s in ((20, 30.0), (40, 0.05)):
        with started(tmp_path, delay_s) as (address, process):
            enough = len(acknowledged) + chance.randint(3, 20)
            sender = threading.Thread(target=send_until_gone, args=(address, list(range(start, 250)), acknowledged))
            sender.start()
            while len(acknowledged) < enough and sender.is_alive():
                time.sleep(0.001)
            process.kill()
            sender.join()
    assert acknowledged
    with started(tmp_path, 0) as (address, _), httpx.Client(timeout=90, **address) as http:
        states = {http.get(f"/api/v1/studies/{i}", params={"wait": 60}).json()["state"] for i in acknowledged}
    assert states == {"answered"}
    with contextlib.closing(sqlite3.connect(tmp_path / "data" / "hilum.db")) as records:
        answers, films = records.execute("SELECT count(*), count(DISTINCT film_id) FROM answers").fetchone()
        assert answers == films >= len(acknowledged)
        assert records.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_a_second_service_on_the_same_folder_is_refused(tmp_path: Path) -> None:
    from tests.service.conftest import settings_in
    from tests.service.small import SmallDrawing, SmallModel

    from hilum.errors import ServiceError
    from hilum.service.app import running

    settings = settings_in(tmp_path, dicom_port=None)
    with (
        running(settings, answering=SmallModel(), drawing=SmallDrawing()),
        pytest.raises(ServiceError, match="in use by another hilum service"),
        running(settings, answering=SmallModel(), drawing=SmallDrawing()),
    ):
        pass
