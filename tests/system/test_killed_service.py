"""``hilum serve`` is killed -9 with all its processes while films come through both doors and results go to a PACS."""

import contextlib
import hashlib
import io
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pydicom
import pytest
from pynetdicom import AE, evt
from sqlalchemy import text
from tests.bundle.small import small_bundle
from tests.inference.films import stored as pixels
from tests.processes import family
from tests.service.hostile import stored, storing

from hilum.imaging.dicom_writing import FilmHeader, film_bytes
from hilum.records.access import Access
from hilum.records.audit import check, entries
from hilum.records.database import Database
from hilum.service.film_files import FilmFiles

pytestmark = pytest.mark.system

ROOT = Path(__file__).parents[2]
DX, EXPLICIT = "1.2.840.10008.5.1.4.1.1.1.1", "1.2.840.10008.1.2.1"
REPORT, CAPTURE = "1.2.840.10008.5.1.4.1.1.88.34", "1.2.840.10008.5.1.4.1.1.7"
KILLS, NEW_A_LIFE, WAIT_S = 30, 5, 120.0
HOW = ("all", "while it sends", "service", "child, then all", "while it starts")
"""All processes at once; the same while the PACS has an object and hasn't said so; the service's alone, whose children
must end of themselves; one child, then all; all before it is ready."""


class Films:
    """Films by number, each the same bytes every time, and what was said of them."""

    def __init__(self) -> None:
        self.made: dict[int, tuple[bytes, str]] = {}
        self.ids: dict[int, str] = {}
        self.stored: set[int] = set()
        self.acknowledged: Counter[str] = Counter()

    def film(self, number: int) -> tuple[bytes, str]:
        """A film's file and its SOP instance UID."""
        if number not in self.made:
            header = FilmHeader(patient_id=f"SYN{number}", age_years=50.0, view_position="PA")
            self.made[number] = film_bytes(pixels(number), header)
        return self.made[number]


def numbers(first: int, seed: int) -> Iterator[int]:
    """Some new numbers, each followed by one from before; then ones from before."""
    chance = random.Random(seed)
    for number in range(first, first + NEW_A_LIFE):
        yield number
        yield chance.randrange(number + 1)
    while True:
        yield chance.randrange(first + NEW_A_LIFE)


def by_rest(films: Films, url: str, key: str, sent: Iterator[int]) -> None:
    """Send until the service is gone."""
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/dicom"}
    with httpx.Client(base_url=url, headers=headers, timeout=WAIT_S) as http, contextlib.suppress(httpx.TransportError):
        for number in sent:
            reply = http.post("/api/v1/studies", content=films.film(number)[0])
            assert reply.is_success, reply.text
            film_id = reply.json()["id"]
            assert films.ids.setdefault(number, film_id) == film_id, "the same film is one film"
            films.acknowledged["REST"] += 1


def by_dicom(films: Films, port: int, sent: Iterator[int]) -> None:
    """The same by C-STORE, on one association; where it breaks off, on another one."""
    while True:
        try:
            with storing(port, kind=DX, syntax=EXPLICIT, within_s=WAIT_S) as peer:
                for number in sent:
                    content, uid = films.film(number)
                    data = content[144 + int.from_bytes(content[140:144], "little") :]
                    assert stored(peer, data, kind=DX, uid=uid.encode()) == 0x0000
                    films.stored.add(number)
                    films.acknowledged["C-STORE"] += 1
        except ConnectionRefusedError:
            return
        except (OSError, AssertionError, ValueError):
            time.sleep(0.05)  # its listener was killed: there is another one soon, or nobody


class Pacs:
    """A storage SCP: what it was sent, also again."""

    def __init__(self) -> None:
        self.contents: dict[str, set[bytes]] = defaultdict(set)
        self.classes: dict[str, str] = {}
        self.times: Counter[str] = Counter()
        self.slow, self.holds, self.answers = threading.Event(), threading.Event(), threading.Event()

    def keep(self, event: Any) -> int:
        uid, content = str(event.request.AffectedSOPInstanceUID), event.request.DataSet.getvalue()
        self.contents[uid].add(content)
        self.classes[uid] = str(event.request.AffectedSOPClassUID)
        self.times[uid] += 1
        if self.slow.is_set():
            self.holds.set()
            self.answers.wait(WAIT_S)
        return 0x0000

    def stop_answering(self) -> None:
        """Keep what comes, and don't say so."""
        self.holds.clear()
        self.answers.clear()
        self.slow.set()

    def go_on(self) -> None:
        """Answer again."""
        self.slow.clear()
        self.answers.set()

    @contextlib.contextmanager
    def open(self) -> Iterator[int]:
        """Its port, while it is open."""
        entity = AE(ae_title="PACS")
        for one in (REPORT, CAPTURE):
            entity.add_supported_context(one)
        server = entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, self.keep)])
        try:
            yield int(server.server_address[1])
        finally:
            server.shutdown()


def alive(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def kill(pids: list[int]) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def until(true: Callable[[], bool], what: Callable[[], object], within_s: float = WAIT_S) -> None:
    deadline = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < deadline, what()
        time.sleep(0.05)


class Lives:
    """The lives of one service.

    Args:
        folder: of its bundle and data.
        pacs: where results go.
        port: of it.
        seed: of when and how it is killed.
    """

    def __init__(self, folder: Path, pacs: Pacs, port: int, seed: int) -> None:
        self.data, self.bundle = folder / "data", small_bundle(folder / "small.hilum")
        self.chance, self.films, self.killed = random.Random(seed), Films(), Counter[str]()
        self.new, self.pacs = 0, pacs
        self.environment = {
            "PATH": "/usr/bin:/bin",
            "PYTHONPATH": str(ROOT / "src"),
            "OMP_NUM_THREADS": "1",
            "HILUM_LEAST_FREE_MB": "1",
            "HILUM_RESULTS_TO": f"pacs=dicom://PACS@127.0.0.1:{port}",
            "HILUM_RESULTS_RETRY_CAP_S": "1",
        }
        self.data.mkdir()
        self.url = f"sqlite:///{self.data / 'hilum.db'}"
        database = Database(self.url)
        access = Access(database)
        access.add_user("ada", ["reviewer", "admin"], password=None, actor="test")
        self.key = access.add_key("ada", actor="test")[1]
        database.close()

    @contextlib.contextmanager
    def begun(self) -> Iterator[subprocess.Popen[str]]:
        words = [sys.executable, "-m", "hilum", "serve", str(self.bundle), "--port", "0", "--dicom-port", "0"]
        with (
            open(self.data.parent / "log.jsonl", "ab") as log,
            subprocess.Popen(
                [*words, "--data", str(self.data)],
                cwd=ROOT,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env=self.environment,
            ) as process,
        ):
            pids = [process.pid]
            try:
                yield process
            finally:
                pids += family(process.pid)
                kill(pids)

    def address(self, process: subprocess.Popen[str]) -> tuple[str, int]:
        """Where it is, as soon as it is ready."""
        said = ""
        assert process.stdout is not None
        while "Ready." not in said:
            line = process.stdout.readline()
            assert line, said
            said += line
        url, port = re.search(r"http://[\d.:]+", said), re.search(r"HILUM@127.0.0.1:(\d+)", said)
        assert url is not None
        assert port is not None
        return url[0], int(port[1])

    def live_and_die(self, how: str) -> None:
        """Start, have films sent to it, and kill it."""
        with self.begun() as process:
            if how == "while it starts":
                time.sleep(self.chance.uniform(0.2, 3))
                self.end(process, family(process.pid))
                self.killed[how] += 1
                return
            url, port = self.address(process)
            made = self.new + NEW_A_LIFE
            senders = [
                threading.Thread(target=by_rest, args=(self.films, url, self.key, numbers(self.new, made))),
                threading.Thread(target=by_dicom, args=(self.films, port, numbers(made, made + 1))),
            ]
            self.new = made + NEW_A_LIFE
            if how == "while it sends":
                self.pacs.stop_answering()
            for sender in senders:
                sender.start()
            if how == "while it sends":
                assert self.pacs.holds.wait(WAIT_S)
            else:
                time.sleep(self.chance.uniform(0.1, 2.5))
            if how == "child, then all":
                kill([self.chance.choice(family(process.pid)[1:])])
                time.sleep(self.chance.uniform(0, 1.5))
            everybody = family(process.pid)
            self.end(process, everybody[:1] if how == "service" else list(everybody))
            self.pacs.go_on()
            until(lambda: not any(map(alive, everybody)), lambda: "children of a service that is gone", 60)
            for sender in senders:
                sender.join(WAIT_S)
                assert not sender.is_alive()
            self.killed[how] += 1

    def end(self, process: subprocess.Popen[str], pids: list[int]) -> None:
        self.chance.shuffle(pids)
        kill(pids)
        assert process.wait(60) == -signal.SIGKILL

    def live_on(self) -> None:
        """Start, answer and send all that is left, and stop when told to."""
        with self.begun() as process:
            url, _ = self.address(process)
            with httpx.Client(base_url=url, headers={"Authorization": f"Bearer {self.key}"}, timeout=WAIT_S) as http:

                def left() -> int:
                    (pacs,) = http.get("/api/v1/results").json()["destinations"]
                    states = ["received", "preparing", "prepared"]
                    waiting = http.get("/api/v1/studies", params={"state": states[:2], "limit": 1}).json()["studies"]
                    return len(waiting) + int(pacs["waiting"]) + int(pacs["sending"])

                until(lambda: not left(), left, 900)
            process.send_signal(signal.SIGTERM)
            assert process.wait(WAIT_S) == 0


def kept_once(lives: Lives) -> dict[str, str]:
    """Look at what it kept; films by SOP instance UID."""
    database = Database(lives.url)
    with database.read() as session:
        rows = session.execute(text("SELECT id, sop_instance_uid, file_sha256, state, reason FROM films")).fetchall()
        answers = session.execute(text("SELECT film_id FROM answers")).scalars().all()
        deliveries = session.execute(text("SELECT state, count(*) FROM deliveries GROUP BY state")).fetchall()
        audit = entries(session)
    database.close()
    assert {(row.state, row.reason) for row in rows} == {("answered", "")}
    ids = {row.sop_instance_uid: row.id for row in rows}
    assert {ids[lives.films.film(number)[1]] for number in lives.films.ids} == set(lives.films.ids.values())
    assert {lives.films.film(number)[1] for number in lives.films.stored} <= set(ids)
    assert sorted(answers) == sorted(ids.values()), "each film has exactly one answer"
    assert [tuple(row) for row in deliveries] == [("sent", len(ids))]
    assert check(audit).whole
    for act in ("film.received", "film.answered"):
        assert sorted(row.subject for row in audit if row.act == act) == sorted(ids.values()), act
    assert sum(row.act == "result.sent" for row in audit) == len(ids)
    files = FilmFiles(lives.data)
    for row in rows:
        assert hashlib.sha256(files.path(row.file_sha256).read_bytes()).hexdigest() == row.file_sha256
    assert not list(files.incoming.iterdir()), "nothing half is left"
    return ids


def sent_at_least_once(pacs: Pacs, ids: dict[str, str]) -> None:
    """Each film's report and heat map came, under one UID each and with the same bytes, however often they came."""
    assert all(len(contents) == 1 for contents in pacs.contents.values())
    kinds = Counter(pacs.classes.values())
    assert kinds == {REPORT: len(ids), CAPTURE: len(ids)}
    films = []
    for uid, kind in pacs.classes.items():
        if kind == REPORT:
            (content,) = pacs.contents[uid]
            report = pydicom.dcmread(io.BytesIO(content), force=True)
            (evidence,) = report.CurrentRequestedProcedureEvidenceSequence
            named = [
                one.ReferencedSOPInstanceUID
                for of in evidence.ReferencedSeriesSequence
                for one in of.ReferencedSOPSequence
            ]
            films += [one for one in named if one in ids]
    assert sorted(films) == sorted(ids), "one report a film"


@pytest.mark.timeout(3600)
def test_a_whole_service_is_killed_again_and_again(tmp_path: Path) -> None:
    pacs = Pacs()
    with pacs.open() as port:
        lives = Lives(tmp_path, pacs, port, seed=1)
        for number in range(KILLS):
            lives.live_and_die(HOW[number % len(HOW)])
        lives.live_on()
    ids = kept_once(lives)
    sent_at_least_once(pacs, ids)
    again = sum(count > 1 for count in pacs.times.values())
    assert again >= lives.killed["while it sends"]
    words = [sys.executable, "-m", "hilum", "audit", "verify", "--data", str(lives.data)]
    assert subprocess.run(words, cwd=ROOT, env=lives.environment, timeout=240, capture_output=True).returncode == 0
    print(
        f"{dict(lives.killed)}: {dict(lives.films.acknowledged)} acknowledged, {len(ids)} films, {len(pacs.times)} "
        f"objects sent, {again} of them again"
    )
