"""JSON for every route that writes, multipart and uploads, changed by chance: an answer in time, never a 5xx."""

import contextlib
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest
from tests.service.abuse import Abuse, Drawn, fault, sent
from tests.service.small import dicom

from hilum.records.roles import ROLES

ROOT = Path(__file__).parents[2]
LONGEST_S, GIVEN_UP_S = 5.0, 120.0
MOST_MORE_MB = 256
LONG = 65_536
"""A refusal may come before such a body, or one in chunks, is sent, and end the connection before it is read."""

LIFE = 5_000
"""Requests to one service: what it keeps of them must not make the last ones slower than the first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    process: subprocess.Popen[str]
    http: httpx.Client
    abuse: Abuse


@contextlib.contextmanager
def served(folder: Path, seed: int) -> Iterator[Served]:
    """A service in a process of its own, and what draws requests for it."""
    command = [sys.executable, "-m", "tests.service.serve_small", str(folder), "0", "no", *ROLES]
    environment = os.environ | {"HILUM_LARGEST_FILM_MB": "1"}
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment
    ) as process:
        assert process.stdout is not None
        try:
            url, key = process.stdout.readline().split()
            headers = {"Authorization": f"Bearer {key}"}
            with httpx.Client(base_url=url, headers=headers, timeout=GIVEN_UP_S) as http:
                as_film = {"Content-Type": "application/dicom"}
                film = http.post("/api/v1/studies?wait=60", content=dicom(4_999, 80), headers=as_film).json()
                known = {"film_id": film["id"], "study": "1.2.826.0.1.3680043.10.2"}
                abuse = Abuse(http.get("/openapi.json").json(), known, seed)
                yield Served(process=process, http=http, abuse=abuse)
        finally:
            process.kill()


@dataclass(slots=True)
class Seen:
    statuses: Counter[int] = field(default_factory=Counter)
    routes: Counter[tuple[str, str]] = field(default_factory=Counter)
    ways: Counter[str] = field(default_factory=Counter)
    cut_off: int = 0
    slowest: float = 0.0
    more_mb: float = 0.0


def peak_mb(process: subprocess.Popen[str]) -> float:
    """The most memory that a process ever had."""
    lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


def asked(to: Served, drawn: Drawn) -> tuple[float, httpx.Response | None]:
    """Seconds to the reply; None where the service closed the connection while the body was still coming."""
    began = time.monotonic()
    try:
        reply = sent(to.http, drawn)
        return time.monotonic() - began, reply
    except httpx.TransportError:
        return time.monotonic() - began, None


def abused(to: Served, numbers: range, seen: Seen) -> None:
    """Send so many; each gets its answer in time, and the service has its memory afterwards."""
    before, late = peak_mb(to.process), list[int]()
    for number in numbers:
        drawn = to.abuse.draw(number)
        took, reply = asked(to, drawn)
        told = f"{to.abuse.seed}/{number} {drawn.route} {drawn.ways}"
        assert to.process.poll() is None, told
        if reply is None:
            assert drawn.chunked or len(drawn.body) > LONG, f"{told} has no reply after {took:.1f} s"
            seen.cut_off += 1
        else:
            assert not (wrong := fault(drawn, reply)), f"{told}: {wrong}"
            seen.statuses[reply.status_code] += 1
        seen.routes[drawn.route] += 1
        seen.ways.update(drawn.ways)
        if took > LONGEST_S:
            late.append(number)
        else:
            seen.slowest = max(seen.slowest, took)
    for number in late:  # alone again: a busy machine is not the request's doing
        took = min(asked(to, to.abuse.draw(number))[0] for _ in range(3))
        assert took < LONGEST_S, f"{to.abuse.seed}/{number} takes {took:.1f} s"
    assert to.http.get("/health/ready").status_code == 200
    seen.more_mb = max(seen.more_mb, peak_mb(to.process) - before)
    assert seen.more_mb < MOST_MORE_MB, seen.more_mb


def abuse_often(folder: Path, count: int, seed: int) -> None:
    """So many requests, each five thousand of them to a service of their own."""
    seen = Seen()
    for first in range(0, count, LIFE):
        last = min(count, first + LIFE)
        with served(folder / str(first), seed) as to:
            abused(to, range(first, last), seen)
            assert set(seen.routes) == set(to.abuse.routes) or count < 1_000, "every route that writes"
        shown(seen, last)
    assert seen.cut_off <= 0.05 * count + 5


def shown(seen: Seen, count: int) -> None:
    print(
        f"{count} requests, {len(seen.routes)} routes, {len(seen.ways)} ways; {sorted(seen.statuses.items())}; "
        f"{seen.cut_off} cut off; slowest {seen.slowest:.1f} s, {seen.more_mb:.0f} MB more"
    )


@pytest.mark.system
@pytest.mark.timeout(1800)
def test_three_thousand_bodies_that_are_none(tmp_path: Path) -> None:
    abuse_often(tmp_path, 3_000, 2)


@pytest.mark.long
@pytest.mark.timeout(36_000)
def test_a_hundred_thousand_bodies_that_are_none(tmp_path: Path, counted: Callable[[int], int]) -> None:
    abuse_often(tmp_path, counted(100_000), 3)
