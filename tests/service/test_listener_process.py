"""The DICOM listener in a process of its own: what ends, hangs or takes it over costs a restart, and not a film."""

import contextlib
import dataclasses
import itertools
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.service.conftest import let_in, settings_in
from tests.service.hostile import listener_of, noted, threads_of
from tests.service.small import SmallDrawing, SmallModel, dataset, dicom
from tests.service.test_dicom import associated, port_of, still_serves

from hilum.data_keys import new_data_key
from hilum.errors import ServiceError
from hilum.records.database import Database
from hilum.records.store import Store
from hilum.service import child_process
from hilum.service.app import Running, running
from hilum.service.child_process import Kept
from hilum.service.child_wire import FAILED, HEADER, LARGEST_BYTES, OK, PING, STOP, receive, send
from hilum.service.dicom import listener_process
from hilum.service.dicom.far_intake import BEGIN, FINISH, FORGET, REFUSED, FarIntake
from hilum.service.dicom.hearing import Hearing
from hilum.service.dicom.listener_child import _serve
from hilum.service.dicom.reception import Reception
from hilum.service.dicom.refusal_book import RefusalBook
from hilum.service.film_files import FilmFiles
from hilum.service.intake import Intake
from hilum.service.refusals import Refused


@pytest.fixture(scope="module", autouse=True)
def impatience() -> Iterator[None]:
    """A process that ends soon after its start is replaced at once here, as one that lived longer is."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(listener_process, "SETTLE_S", 0.0)
        yield


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    key = new_data_key().text
    settings = settings_in(tmp_path_factory.mktemp("listener"), dicom_port=0, data_key=key, listener_memory_mb=300)
    with running(settings, answering=SmallModel(), drawing=SmallDrawing()) as started:
        yield started


def until(happened: Callable[[], object], within_s: float = 120) -> None:
    deadline = time.monotonic() + within_s
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def replaced(service: Running, process: int) -> bool:
    listener = service.room.listener
    return listener is not None and listener.process_id not in (None, process)


def restarts_of(service: Running) -> int:
    assert service.room.listener is not None
    return service.room.listener.restarts


def store(service: Running, number: int) -> int:
    with associated(port_of(service)) as association:
        return int(association.send_c_store(dataset(number)).get("Status", -1))


def stored(service: Running, number: int) -> bool:
    """Also where the process that was met is being replaced."""
    with contextlib.suppress(RuntimeError, ValueError):
        return store(service, number) == 0x0000
    return False


def test_it_is_limited_and_knows_no_secret(service: Running) -> None:
    assert still_serves(service)
    at = Path(f"/proc/{listener_of(service)}")
    limits = {line[:26].strip(): line[26:].split()[1] for line in (at / "limits").read_text().splitlines()}
    assert int(limits["Max address space"]) < 2 << 30
    assert int(limits["Max open files"]) < 200
    assert int(limits["Max file size"]) < 132 << 20
    assert limits["Max core file size"] == "0"
    key = service.room.settings.data_key
    assert key is not None
    for name in ("cmdline", "environ"):
        assert key.get_secret_value() not in (at / name).read_text()
        assert "HILUM_" not in (at / name).read_text()
    records = {str(one.readlink()) for one in (at / "fd").iterdir()}
    assert not [one for one in records if one.endswith(".db")]


def test_a_killed_one_is_replaced_while_its_port_stays_taken(service: Running) -> None:
    process, port, before = listener_of(service), port_of(service), restarts_of(service)
    os.kill(process, signal.SIGKILL)
    with socket.create_connection(("127.0.0.1", port), timeout=60):
        pass  # peers wait, and are not turned away
    assert store(service, 1) == 0x0000
    until(lambda: replaced(service, process))
    assert port_of(service) == port
    with httpx.Client(base_url=service.url, headers=let_in(service, "admin"), timeout=60) as http:
        until(lambda: f"hilum_listener_restarts_total {before + 1}.0" in http.get("/metrics").text)
        assert http.get("/health/ready").json()["checks"]["dicom"] == "ok"


def test_one_that_hangs_is_replaced(service: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child_process, "ANSWER_TO_BEAT_S", 0.8)
    process = listener_of(service)

    def replaced_though_it_does_not_end() -> bool:
        if replaced(service, process):
            return True
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGSTOP)  # again and again: somebody else may let it go on
        return False

    until(replaced_though_it_does_not_end)
    monkeypatch.undo()  # on a busy machine the next one may need longer than that as well
    until(lambda: stored(service, 2))


def test_it_ends_with_the_service(service: Running) -> None:
    """The socket between them closes then, whatever else happens to the service."""
    assert still_serves(service)
    listener = service.room.listener
    assert listener is not None
    assert listener._kept is not None
    with listener._kept.lock:
        child = listener._kept.child
        assert child is not None
        child.process._socket.shutdown(socket.SHUT_RDWR)
        assert child.process._process.wait(60) == 0
    until(lambda: stored(service, 9))


def test_killed_between_the_bytes_and_the_answer_the_film_is_there_once(service: Running) -> None:
    """The sender was never answered and sends again."""
    process, intake, met = listener_of(service), service.room.intake, threading.Event()

    def point(name: str) -> None:
        if name == "ack" and not met.is_set():
            os.kill(process, signal.SIGKILL)
            met.set()

    before = sum(service.room.store.counts().values())
    intake.point = point
    with contextlib.suppress(RuntimeError, ValueError):
        assert store(service, 3) == -1
    assert met.is_set()
    until(lambda: replaced(service, process))
    assert store(service, 3) == 0x0000
    assert sum(service.room.store.counts().values()) == before + 1
    assert not list(intake.files.incoming.iterdir())


def test_one_host_does_not_keep_all_others_out(service: Running) -> None:
    """8 of the 10 associations are taken by connections that say nothing; the others are not that host's to take."""
    assert still_serves(service)
    with contextlib.ExitStack() as stack:
        at = ("127.0.0.1", port_of(service))
        for _ in range(8):
            stack.enter_context(socket.create_connection(at, timeout=60, source_address=("127.0.0.2", 0)))
        until(lambda: threads_of(listener_of(service)) > 16)
        with socket.create_connection(at, timeout=60, source_address=("127.0.0.2", 0)) as ninth:
            assert ninth.recv(1) == b""
        assert store(service, 5) == 0x0000, "another host's"


def test_peers_that_are_refused_are_counted_and_noted(tmp_path: Path) -> None:
    settings = settings_in(tmp_path, dicom_port=0, allowed_ae_titles=("MODALITY",))
    with running(settings, answering=SmallModel(), drawing=SmallDrawing()) as service:
        for _ in range(3):
            with associated(port_of(service), title="DOE^JANE") as association:
                assert association.is_rejected
        with httpx.Client(base_url=service.url, headers=let_in(service, "admin"), timeout=60) as http:
            until(lambda: 'hilum_dicom_refusals_total{code="title"} 3.0' in http.get("/metrics").text)
        database = service.room.database
        until(lambda: noted(database))
    database = Database(settings.url)
    assert [one["times"] for one in noted(database)] == [1, 2], "at once, and the others when it stops"
    assert noted(database)[0] == {"code": "title", "times": 1}, "a title that nobody knows may be a name"
    database.close()


@pytest.fixture
def intake(tmp_path: Path) -> Iterator[Intake]:
    database = Database(f"sqlite:///{tmp_path / 'hilum.db'}")
    yield Intake(
        FilmFiles(tmp_path / "data"),
        Store(database),
        model_sha256="m" * 64,
        largest_bytes=1 << 20,
        least_free_bytes=0,
        received=lambda _: None,
    )
    database.close()


@contextlib.contextmanager
def served(
    intake: Intake, expected: Callable[[str], bool] = lambda uid: False
) -> Iterator[tuple[socket.socket, list[str]]]:
    """The listener's end of a channel, and what the service's end made of a message that is none."""
    ours, theirs = socket.socketpair()
    distrusted: list[str] = []

    def serve() -> None:
        try:
            Reception(intake, expected).serve(theirs)
        except ValueError as error:
            distrusted.append(str(error))
        theirs.close()

    thread = threading.Thread(target=serve)
    thread.start()
    with ours:
        yield ours, distrusted
    thread.join(60)
    assert not thread.is_alive()


def sent(channel: socket.socket, **changes: object) -> str:
    with FarIntake([channel], 1 << 20).begin() as arrival:
        arrival.write(dicom(7))
        given: Any = {
            "origin": "dicom",
            "calling_ae": "CT",
            "sop_instance_uid": "1.2.3",
            "expected": "dicom",
            "urgent": False,
        }
        return arrival.finish(**{**given, **changes}).film_id


def test_a_film_that_was_asked_for_is_a_prior_only_if_the_records_say_so(intake: Intake) -> None:
    for wanted, origin in ((False, "dicom"), (True, "pacs")):
        with served(intake, lambda uid, wanted=wanted: wanted) as (channel, _):  # type: ignore[misc]
            film_id = sent(channel, origin="pacs")
        record = intake.store.film(film_id)
        assert record is not None
        assert (record.origin == origin) or wanted, "it was there already"


def test_what_was_begun_is_forgotten_when_the_listener_ends(intake: Intake) -> None:
    with served(intake) as (channel, _):
        send(channel, BEGIN, {})
        _, _, (descriptor,) = receive(channel, 1)
        os.write(descriptor, b"half a film")
        assert len(list(intake.files.incoming.iterdir())) == 1
        os.close(descriptor)
    assert not list(intake.files.incoming.iterdir())


def test_what_the_intake_refuses_is_refused_over_there(intake: Intake) -> None:
    with served(intake) as (channel, distrusted):
        with (
            pytest.raises(Refused, match="larger than the 1 MiB") as refused,
            FarIntake([channel], 1 << 20).begin() as one,
        ):
            one.write(bytes(2 << 20))
        assert refused.value.films_fault
        with pytest.raises(Refused, match="none of DICOM"), FarIntake([channel], 1 << 20).begin() as one:
            one.write(b"text")
            one.finish(origin="dicom", calling_ae="", sop_instance_uid="1", expected="dicom", urgent=False)
        intake.stop()
        with pytest.raises(Refused, match="is stopping") as refused:
            sent(channel)
        assert refused.value.code == "stopping"
    assert not list(intake.files.incoming.iterdir())
    assert not distrusted
    assert intake.store.counts() == {}


def test_bytes_that_are_not_as_many_as_is_said_are_not_kept(intake: Intake) -> None:
    with served(intake) as (channel, _):
        status, said = ended(channel, {"size": 5})
    assert (status, said["code"]) == (REFUSED, "internal")
    assert intake.store.counts() == {}


GOOD = {
    "origin": "dicom",
    "calling_ae": "CT",
    "sop_instance_uid": "1.2",
    "urgent": False,
    "written": {"file_sha256": "a" * 64, "size": 4, "format": "dicom"},
}


def ended(channel: socket.socket, written: dict[str, object], **changes: object) -> tuple[int, Any]:
    send(channel, BEGIN, {})
    _, _, (descriptor,) = receive(channel, 1)
    os.write(descriptor, b"film")
    os.close(descriptor)
    send(channel, FINISH, {**GOOD, **changes, "written": {**GOOD["written"], **written}})  # type: ignore[dict-item]
    status, said, _ = receive(channel)
    return status, said


@pytest.mark.parametrize(
    ("written", "changes"),
    [
        ({"file_sha256": "../../hilum.db"}, {}),
        ({"file_sha256": ""}, {}),
        ({"size": "4"}, {}),
        ({"format": "png"}, {}),
        ({"path": "/"}, {}),
        ({}, {"origin": "rest"}),
        ({}, {"calling_ae": "x" * 17}),
        ({}, {"calling_ae": ["x"]}),
        ({}, {"sop_instance_uid": "../1"}),
        ({}, {"sop_instance_uid": None}),
        ({}, {"urgent": 1}),
        ({}, {"actor": "admin"}),
    ],
)
def test_a_message_of_another_form_ends_the_trust(
    intake: Intake, written: dict[str, object], changes: dict[str, object]
) -> None:
    with served(intake) as (channel, distrusted), pytest.raises(EOFError):
        ended(channel, written, **changes)
    assert distrusted == ["a film's end of another form"]
    assert not list(intake.files.incoming.iterdir())
    assert intake.store.counts() == {}


@pytest.mark.parametrize(("first", "then"), [(FINISH, None), (FORGET, None), (BEGIN, BEGIN), (BEGIN, 99)])
def test_a_message_at_the_wrong_time_ends_the_trust(intake: Intake, first: int, then: int | None) -> None:
    with served(intake) as (channel, distrusted):
        send(channel, first, {})
        if then is not None:
            _, _, descriptors = receive(channel, 1)
            os.close(descriptors[0])
            send(channel, then, {})
        with pytest.raises(EOFError):
            receive(channel)
    assert "a message of kind" in distrusted[0]


def test_one_that_is_not_trusted_any_more_is_replaced(service: Running) -> None:
    process, listener = listener_of(service), service.room.listener
    assert listener is not None
    assert listener._kept is not None
    child = listener._kept.child
    assert child is not None
    listener._distrust(child, "a try")
    assert replaced(service, process)
    listener._distrust(child, "of one that is gone already")
    assert store(service, 4) == 0x0000


class Quiet:
    """A listener that takes no connections any more."""

    alive = False
    stopped_s = -1.0

    def stop(self, within_s: float) -> None:
        self.stopped_s = within_s


def test_one_that_takes_no_connections_says_so_and_one_that_is_stopped_lets_its_peers_go() -> None:
    ours, theirs = socket.socketpair()
    listener = Quiet()
    with ours, theirs:
        send(ours, STOP, 2.5)
        send(ours, PING)
        _serve(theirs, listener)  # type: ignore[arg-type]
        assert receive(ours)[0] == OK
        status, said, _ = receive(ours)
    assert listener.stopped_s == 2.5
    assert status == FAILED
    assert said == {"kind": "ServiceError", "text": "The DICOM listener takes no connections any more."}


def test_a_message_is_bounded() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.sendall(HEADER.pack(OK, LARGEST_BYTES + 1))
        with pytest.raises(ValueError, match="a message of 1048577 bytes"):
            receive(theirs)
        ours.sendall(HEADER.pack(OK, 3) + b"{{{")
        with pytest.raises(ValueError, match="Expecting"):
            receive(theirs)
        ours.sendall(HEADER.pack(OK, 3) + b"1")
        ours.close()
        with pytest.raises(EOFError):
            receive(theirs)


@dataclasses.dataclass
class Counted:
    told: list[str] = dataclasses.field(default_factory=list)

    def dicom_film(self, outcome: str) -> None:
        self.told.append(outcome)

    def dicom_refusal(self, code: str) -> None:
        self.told.append(code)

    def note(self, code: str, calling_ae: str, certificate: str) -> None:
        self.told.append(f"noted {code}{calling_ae}{certificate}")


def test_what_is_heard_is_counted_by_names_of_our_own() -> None:
    counted = Counted()
    hearing = Hearing(counted, counted)  # type: ignore[arg-type]
    hearing({"event": "film received", "level": "info", "film": "x"})
    hearing({"event": "association rejected", "level": "warning", "code": "title"})
    hearing({"event": "connection refused", "level": "shout", "code": "whatever it likes"})
    hearing({"event": ["no"], "level": {}, "at": ["a" * 999], "not a name": 1, "deep": {"a": 1}})
    hearing({"event": "film received", "level": "info", "self": "no", "method_name": "of ours"})
    assert counted.told == ["received", "title", "noted title", "other", "noted other", "received"]


class Ticking:
    seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


def test_refusals_are_noted_once_a_while(tmp_path: Path) -> None:
    database, clock = Database(f"sqlite:///{tmp_path / 'hilum.db'}"), Ticking()
    book = RefusalBook(database, clock=clock)
    book.note("title")
    until(lambda: len(noted(database)) == 1)
    for _ in range(5):
        book.note("title")
    book.note("certificate", "CR1", "ab" * 32)
    until(lambda: len(noted(database)) == 2)
    clock.seconds = 61
    book.note("title")
    until(lambda: len(noted(database)) == 3)
    for number in range(500):
        book.note("certificate", "CR1", f"{number:064x}")
    book.stop()
    rows = noted(database)
    assert rows[:3] == [
        {"code": "title", "times": 1},
        {"code": "certificate", "times": 1, "calling_ae": "CR1", "certificate": "ab" * 32},
        {"code": "title", "times": 6},
    ]
    assert len(rows) < 110, "kinds without end are counted as one"
    assert sum(row["times"] for row in rows) == 508
    database.close()


class Doomed:
    """A child that says it is gone whenever it is asked."""

    def __init__(self, made: list[float]) -> None:
        made.append(time.monotonic())

    def beat(self, _: float) -> None:
        raise ServiceError("It is gone.")

    def kill(self) -> None:
        pass


def test_one_that_ends_again_and_again_is_replaced_ever_less_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child_process, "BEAT_S", 0.01)
    monkeypatch.setattr(child_process, "FIRST_PAUSE_S", 0.05)
    made: list[float] = []
    kept = Kept("tried process", lambda: Doomed(made), settle_s=60)
    until(lambda: len(made) >= 5)
    assert kept.trouble is None or "The tried process doesn't come up: It is gone." in kept.trouble
    kept.close()
    pauses = [then - before for before, then in itertools.pairwise(made)]
    assert all(pause >= 0.05 * 2**number for number, pause in enumerate(pauses)), pauses
