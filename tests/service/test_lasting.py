"""Who is cancelled leaves no thread behind that still writes: to no file, and to no memory that others have next."""

import asyncio
import threading
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.service.conftest import let_in, settings_in
from tests.service.small import SmallDrawing, SmallModel, dicom

from hilum.service.app import running
from hilum.service.intake import Arrival
from hilum.service.lasting import begun, to_its_end

SIDE = 2400
LARGE = dicom(4, Rows=SIDE, Columns=SIDE, PixelData=bytes(range(100)) * (SIDE * SIDE // 100))
"""More than the memory where a film comes together, so that it waits for the disk in between."""


@pytest.mark.parametrize("fails", [False, True])
def test_a_cancellation_waits_for_the_thread(fails: bool) -> None:
    begun, go, ended = threading.Event(), threading.Event(), list[str]()

    def work(name: str, *, more: str) -> None:
        begun.set()
        assert go.wait(120)
        ended.append(name + more)
        if fails:
            raise ValueError("nobody hears this")

    async def body() -> None:
        task = asyncio.create_task(to_its_end(work, "a", more="b"))
        assert await asyncio.to_thread(begun.wait, 120)
        for _ in range(3):
            task.cancel()
            for _ in range(10):
                await asyncio.sleep(0)
            assert not task.done()
        go.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert ended == ["ab"]

    asyncio.run(body())


def test_what_was_begun_for_nobody_is_left() -> None:
    go, steps = threading.Event(), list[str]()

    class Film:
        def __enter__(self) -> "Film":
            return self

        def __exit__(self, *_: object) -> None:
            steps.append("left")

    def begin() -> Film:
        steps.append("begun")
        assert go.wait(120)
        return Film()

    async def body() -> None:
        task = asyncio.create_task(begun(begin))
        while not steps:
            await asyncio.sleep(0.001)
        task.cancel()
        await asyncio.sleep(0)
        go.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert steps == ["begun", "left"]
        assert isinstance(await begun(Film), Film)

    asyncio.run(body())


def test_what_the_work_gives_or_raises_comes_back() -> None:
    assert asyncio.run(to_its_end(int, "12", base=5)) == 7
    with pytest.raises(ValueError, match="invalid literal"):
        asyncio.run(to_its_end(int, "x"))


@pytest.mark.parametrize(
    ("door", "step"),
    [("/api/v1/studies", "write"), ("/dicom-web/studies", "write"), ("/dicom-web/studies", "finish")],
)
def test_a_film_that_comes_too_slowly_is_let_go_of_when_its_thread_has_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, door: str, step: str
) -> None:
    order, left, leave = list[str](), threading.Event(), Arrival.__exit__
    real, limits, timeout = getattr(Arrival, step), list[tuple[Any, Any]](), asyncio.timeout

    def limited(delay: float | None) -> asyncio.Timeout:
        limits.append((asyncio.get_running_loop(), timeout(delay)))
        return limits[-1][1]

    def stalled(arrival: Arrival, *args: Any, **options: Any) -> Any:
        if threading.current_thread().name != "hilum-web" and not order:
            loop, limit = limits[-1]
            loop.call_soon_threadsafe(lambda: limit.reschedule(loop.time()))  # the deadline comes while the disk stalls
            left.wait(1)
            order.append("ended")
        return real(arrival, *args, **options)

    def watched(arrival: Arrival, *args: Any) -> None:
        order.append("left")
        left.set()
        leave(arrival, *args)

    monkeypatch.setattr(asyncio, "timeout", limited)
    monkeypatch.setattr(Arrival, step, stalled)
    monkeypatch.setattr(Arrival, "__exit__", watched)
    with (
        running(settings_in(tmp_path), answering=SmallModel(), drawing=SmallDrawing()) as service,
        httpx.Client(base_url=service.url, timeout=90, headers=let_in(service)) as http,
    ):
        sent = http.post(door, content=LARGE, headers={"Content-Type": "application/dicom"})
    assert sent.status_code == 408, sent.text
    assert order[:2] == ["ended", "left"]
