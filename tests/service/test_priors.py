"""Earlier films of a patient: found by exact identity, fetched from a real PACS in this process, and kept as priors."""

import contextlib
import html
import io
import json
import time
from collections.abc import Callable, Iterator
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from pynetdicom.dimse_primitives import C_STORE
from sqlalchemy import select
from tests.service.archive import Archive, archive, study
from tests.service.conftest import let_in, settings_in
from tests.service.pem import issue
from tests.service.small import SmallDrawing, SmallModel
from tests.service.test_dicom import associated
from tests.service.test_privacy import log  # noqa: F401  # a fixture
from typer.testing import CliRunner

from hilum.cli.verbs import app
from hilum.errors import ConfigError, UsageError
from hilum.records.schema import FilmRow
from hilum.records.values import FilmRecord
from hilum.service.app import Running, running
from hilum.service.certificates import server_context
from hilum.service.destinations import read_destination
from hilum.service.dicom.listener_process import terms_of
from hilum.service.dicom.pacs import Pacs, asking, fetch, move_study, what_it_takes
from hilum.service.dicom.patients import Ambiguous, Patient, asked_with, same_patient
from hilum.service.dicom.priors import Film, Found, find_priors
from hilum.service.dicom.terms import asked_for
from hilum.service.dicom.unfetched import Unfetched

NEW = "20261101"


def until(true: Callable[[], object], what: str, within_s: float = 60) -> None:
    deadline = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < deadline, f"not within {within_s:g} s: {what}"
        time.sleep(0.02)


@contextlib.contextmanager
def reading_room(folder: Path, pacs: Archive, **changes: object) -> Iterator[Running]:
    settings = settings_in(folder, pacs=pacs.setting, **{"results_retry_cap_s": 0.05, **changes})
    with running(settings, answering=SmallModel(), drawing=SmallDrawing()) as service:
        pacs.destinations["HILUM"] = ("127.0.0.1", service.dicom_port or 0)
        yield service


def send(service: Running, film: Any) -> None:
    """A film comes over DICOM: through the listener where there is one, else as it hands films over."""
    if service.dicom_port is None:
        content = io.BytesIO()
        film.save_as(content, enforce_file_format=True)
        with service.room.intake.begin() as arrival:
            arrival.write(content.getvalue())
            arrival.finish(origin="dicom", calling_ae="SCU", sop_instance_uid=str(film.SOPInstanceUID))
        return
    with associated(service.dicom_port) as association:
        assert association.send_c_store(film).Status == 0x0000


def looked(service: Running, number: int = 1) -> bool:
    counts = service.room.look_ups.counts()
    return counts.get("done", 0) + counts.get("dead", 0) == number


def films_by_uid(service: Running) -> dict[str, FilmRecord]:
    records = {one.film_id: one for one in service.room.store.films().films}
    with service.room.database.read() as session:
        rows = session.execute(select(FilmRow.id, FilmRow.sop_instance_uid))
        return {str(uid).rsplit(".", 1)[1]: records[film_id] for film_id, uid in rows}


HELD = (
    study(1, "20250101", level=11),
    study(2, "20240101", level=12),
    study(3, "20230101", level=13),
    study(4, "20100101", level=14),  # too long ago
    study(5, "20250201", level=15, PatientID="P10"),  # a wildcard would find it
    study(6, "20250301", level=16, ViewPosition="LL"),
    study(7, "20250401", level=17, BodyPartExamined="HAND"),
    study(8, NEW, level=18, StudyTime="090000"),  # earlier on the same day
    study(9, "20261201", level=19),  # later
    study(10, NEW, level=20, StudyTime="120000"),  # later on the same day
    study(11, "20250501", level=21, PatientBirthDate="19990101"),  # somebody else with the same id
)


@pytest.mark.parametrize(("way", "title"), [("get", "ARCHIVE"), ("move", "ARCHIVE"), ("move", "HILUM")])
def test_priors_of_an_answered_film_are_fetched_and_kept_off_the_worklist(tmp_path: Path, way: str, title: str) -> None:
    with archive(HELD, get=way == "get", title=title) as pacs, reading_room(tmp_path, pacs, dicom_port=0) as service:
        send(service, study(100, NEW, level=200))
        until(lambda: looked(service), "looked up")
        assert service.room.look_ups.counts() == {"done": 1}, service.room.look_ups.lost()
        films = films_by_uid(service)
        assert sorted(films) == ["1", "100", "8"], "the two latest earlier studies"
        assert service.room.look_ups.priors_of(films["100"].film_id) == (films["8"].film_id, films["1"].film_id)
        for prior in (films["1"], films["8"]):
            assert (prior.origin, prior.state, prior.reason_code) == ("pacs", "not-analysed", "prior")
        (listed,) = service.room.store.worklist(limit=10, waiting_cap=timedelta(days=1))
        assert listed.film_id == films["100"].film_id


@pytest.mark.parametrize(
    ("originator", "calling", "ours"),
    [
        ("HILUM", "ANY", True),
        ("ARCHIVE", "ARCHIVE", True),
        (None, "ARCHIVE", True),
        (None, "MODALITY", False),
        ("OTHER", "ARCHIVE", False),
        ("ARCHIVE", "MODALITY", False),
    ],
)
def test_only_what_comes_of_our_own_move_may_be_a_prior(
    tmp_path: Path, originator: str | None, calling: str, ours: bool
) -> None:
    request = C_STORE()
    request.MoveOriginatorApplicationEntityTitle = originator
    assert asked_for(request, calling, terms_of(settings_in(tmp_path, pacs="x=dicom://ARCHIVE@h:104"))) is ours
    assert not asked_for(request, calling, terms_of(settings_in(tmp_path)))


def test_a_prior_that_is_sent_by_itself_is_answered(tmp_path: Path) -> None:
    with archive(HELD[:1]) as pacs, reading_room(tmp_path, pacs) as service:
        send(service, study(100, NEW, level=200))
        until(lambda: looked(service), "looked up")
        send(service, HELD[0])
        until(lambda: films_by_uid(service)["1"].state == "answered", "the prior is answered")
        assert films_by_uid(service)["1"].origin == "dicom"
        assert len(service.room.look_ups.priors_of(films_by_uid(service)["100"].film_id)) == 1


def test_priors_are_answered_where_that_is_wanted_and_are_still_no_work(tmp_path: Path) -> None:
    with archive(HELD[:1]) as pacs, reading_room(tmp_path, pacs, priors_analyse=True) as service:
        send(service, study(100, NEW, level=200))
        until(lambda: looked(service), "looked up")
        until(lambda: films_by_uid(service)["1"].state == "answered", "the prior is answered")
        assert service.room.look_ups.counts() == {"done": 1}, "no priors of priors"
        assert len(service.room.store.worklist(limit=10, waiting_cap=timedelta(days=1))) == 1


def test_a_film_that_came_before_is_not_fetched_again(tmp_path: Path) -> None:
    with archive(HELD[:1]) as pacs, reading_room(tmp_path, pacs) as service:
        send(service, HELD[0])
        until(lambda: looked(service), "looked up for the first film")
        send(service, study(100, NEW, level=200))
        until(lambda: looked(service, 2), "looked up for both")
        films = films_by_uid(service)
        assert service.room.look_ups.priors_of(films["100"].film_id) == (films["1"].film_id,)
        assert (pacs.sent, films["1"].state) == ([], "answered")


def test_a_film_of_another_patient_is_not_believed(tmp_path: Path) -> None:
    """Whatever the PACS answered to the query, the film's own header decides."""
    with archive(HELD[:1]) as pacs, reading_room(tmp_path, pacs) as service:
        pacs.swaps[HELD[0].SOPInstanceUID] = study(1, "20250101", level=99, PatientID="P2")
        send(service, study(100, NEW, level=200))
        until(lambda: looked(service), "looked up")
        films = films_by_uid(service)
        assert (films["1"].state, films["1"].reason_code) == ("quarantined", "other-patient")
        assert service.room.look_ups.priors_of(films["100"].film_id) == ()


def test_a_film_that_was_not_asked_for_is_not_taken(tmp_path: Path) -> None:
    with archive(HELD[:1]) as pacs, reading_room(tmp_path, pacs, pacs_give_up_h=1e-9) as service:
        pacs.swaps[HELD[0].SOPInstanceUID] = study(55, "20250101", level=99)
        send(service, study(100, NEW, level=200))
        until(lambda: looked(service), "looked up")
        assert sorted(films_by_uid(service)) == ["100"]
        assert service.room.look_ups.counts() == {"dead": 1}


def test_a_pacs_that_is_away_or_fails_is_asked_again(tmp_path: Path) -> None:
    with archive(HELD[:1]) as pacs, reading_room(tmp_path, pacs) as service:
        pacs.refuse_finds = 2
        send(service, study(100, NEW, level=200))
        until(lambda: service.room.look_ups.counts() == {"done": 1}, "the third time it answers")
        assert len(service.room.look_ups.priors_of(films_by_uid(service)["100"].film_id)) == 1


def test_why_a_look_up_waits_is_told_by_the_log_the_console_and_the_page(
    tmp_path: Path,
    log: io.StringIO,  # noqa: F811
) -> None:
    with archive(HELD[:1], callers=["OTHER"]) as pacs, reading_room(tmp_path, pacs) as service:
        send(service, study(100, NEW, level=200))
        until(lambda: service.room.look_ups.put_off(), "tried once")
        assert service.room.looking_back is not None
        assert service.room.looking_back.stop(60), "else it may be tried again just now"
        (film,) = service.room.store.films().films
        said = CliRunner().invoke(app, ["pacs", "list", "--data", str(service.room.settings.data), "--json"])
        assert f"film {film.film_id}  " in said.output
        assert "Make HILUM known there" in json.loads(said.stdout.splitlines()[-1])["again"][0]["reason"]
        with httpx.Client(base_url=service.url, headers=let_in(service, "admin")) as http:
            page = html.unescape(http.get("/operations").text)
        assert "Look-ups of earlier films that wait to be tried again" in page
        for told in (said.output, page, log.getvalue()):
            assert "rejects associations of HILUM: it does not know this title of ours" in told


def test_a_look_up_that_is_given_up_is_listed_and_made_again(tmp_path: Path) -> None:
    with archive(HELD[:1], callers=["OTHER"]) as pacs:
        with reading_room(tmp_path, pacs, pacs_give_up_h=1e-9) as service:
            send(service, study(100, NEW, level=200))
            until(lambda: looked(service), "given up")
            (lost,) = service.room.look_ups.lost()
            assert (lost.reason_code, lost.attempts) == ("rejected", 1)
            assert "Make HILUM known there" in lost.reason
            assert films_by_uid(service)["100"].state == "answered", "the answer did not wait"
            pacs.refuse_finds = 0
        with archive(HELD[:1]) as open_now, reading_room(tmp_path, open_now) as service:
            assert service.room.look_ups.requeue() == 1
            service.room.looking_back.wake()  # type: ignore[union-attr]
            until(lambda: service.room.look_ups.counts() == {"done": 1}, "made again, after a restart")
            assert service.room.look_ups.requeue(lost.film_id) == 1
            with pytest.raises(UsageError, match="No finished look-up"):
                service.room.look_ups.requeue("none")


def test_over_tls_and_by_name(tmp_path: Path) -> None:
    ours = issue(tmp_path, "ours")
    pair = issue(tmp_path, "archive", by=ours)
    tls = server_context(pair.certificate, pair.key, clients="on", authorities=None)
    with archive(HELD[:1], tls=tls) as pacs:
        setting = pacs.setting.replace("dicom:", "dicoms:")
        settings = settings_in(tmp_path, pacs=setting, results_ca=ours.certificate)
        with running(settings, answering=SmallModel(), drawing=SmallDrawing()) as service:
            send(service, study(100, NEW, level=200))
            until(lambda: service.room.look_ups.counts() == {"done": 1}, "looked up")
            assert sorted(films_by_uid(service)) == ["1", "100"]


@pytest.mark.parametrize(
    ("patient_id", "code"),
    [
        ("", "no-patient-id"),
        ("*", "no-exact-id"),
        ("P?", "no-exact-id"),
        ("P1*", "no-exact-id"),
        ("P1\\P2", "no-exact-id"),
        ("P1\x1b", "no-exact-id"),
        ("P" * 65, "no-exact-id"),
    ],
)
def test_an_id_that_could_mean_somebody_else_is_never_asked_with(patient_id: str, code: str) -> None:
    with pytest.raises(Ambiguous, match="The film") as refused:
        asked_with(Patient(patient_id=patient_id))
    assert refused.value.code == code
    if patient_id:
        assert patient_id not in str(refused.value)


def test_an_attackers_id_asks_nobody_and_keeps_nothing_waiting(tmp_path: Path) -> None:
    with archive(HELD) as pacs, reading_room(tmp_path, pacs) as service:
        send(service, study(100, NEW, level=200, PatientID="*"))
        until(lambda: looked(service), "looked up")
        assert pacs.asked == []
        assert service.room.look_ups.counts() == {"done": 1}


def whose(patient_id: str, issuer: str = "", birth_date: str = "") -> Patient:
    return Patient(patient_id=patient_id, issuer=issuer, birth_date=birth_date)


@pytest.mark.parametrize(
    ("film", "answers", "kept"),
    [
        (whose("A"), [whose("A"), whose("a"), whose("A1")], [0]),
        (whose("A", "X"), [whose("A"), whose("A")], [0, 1]),  # this archive records no issuers
        (whose("A", "X"), [whose("A", "X"), whose("A", "Y"), whose("A")], [0]),
        (whose("A"), [whose("A", "X"), whose("A", "X")], [0, 1]),
        (whose("A", "", "19500101"), [whose("A", "", "19500101"), whose("A", "", "19500102"), whose("A")], [0, 2]),
    ],
)
def test_only_what_is_certainly_of_the_same_patient_is_kept(
    film: Patient, answers: list[Patient], kept: list[int]
) -> None:
    assert same_patient(film, [(one, number) for number, one in enumerate(answers)]) == kept


def test_an_id_of_several_issuers_is_ambiguous() -> None:
    with pytest.raises(Ambiguous, match="Several issuers") as refused:
        same_patient(whose("A"), [(whose("A", "X"), 1), (whose("A", "Y"), 2)])
    assert refused.value.code == "several-issuers"


def film_of(patient: Patient, charset: tuple[str, ...] = (), day: str = NEW) -> Film:
    taken = (day, "101112")
    return Film(patient=patient, charset=charset, study_instance_uid="1.2.9", accession_number="", taken=taken)


def reached(pacs: Archive, **changes: Any) -> Pacs:
    return Pacs(node=read_destination(pacs.setting), calling="HILUM", **{"timeout_s": 10, **changes})


def test_an_id_in_another_script_is_asked_with_in_its_character_set() -> None:
    held = study(1, "20250101", PatientID="Ж1", SpecificCharacterSet="ISO_IR 192")
    with archive([held]) as pacs, asking(reached(pacs)) as ask:
        film = film_of(Patient(patient_id="Ж1"), ("ISO_IR 192",))
        assert len(find_priors(ask, film, years=5, count=2, today=date(2026, 11, 1))) == 1


def test_a_film_without_a_date_is_taken_to_be_of_today() -> None:
    with archive(HELD) as pacs, asking(reached(pacs)) as ask:
        film = film_of(Patient(patient_id="P1", birth_date="19500101"), day="")
        found = find_priors(ask, film, years=5, count=1, today=date(2024, 6, 1))
        assert [one.sop_instance_uid.rsplit(".", 1)[1] for one in found] == ["2"]


def test_what_a_pacs_takes_is_told() -> None:
    with archive([], get=False) as pacs:
        assert what_it_takes(reached(pacs)) == {"echo": True, "find": True, "get": False, "move": True}


def test_a_pacs_that_can_not_give_says_why() -> None:
    one = Found(study_instance_uid="1.2.3.1", series_instance_uid="1.2.3.1.1", sop_instance_uid=HELD[0].SOPInstanceUID)

    def keep(_: Any) -> int:
        return 0xA700

    with archive(HELD[:1]) as pacs:
        with pytest.raises(Unfetched, match="does not know HILUM as a place to send to") as refused:
            fetch(reached(pacs), [one], way="move", keep=keep)
        assert (refused.value.code, refused.value.permanent) == ("status-a801", True)
        with pytest.raises(Unfetched, match="does not know HILUM"):
            move_study(reached(pacs), "1.2.3.1")
        with pytest.raises(Unfetched, match=r"could not send what was asked for .status 0xA702") as refused:
            fetch(reached(pacs), [one], way="get", keep=keep)
        assert not refused.value.permanent
    with archive(HELD[:1], get=False, move=False) as pacs:
        for way, words in (("auto", "neither C-GET nor C-MOVE"), ("get", "no C-GET"), ("move", "no C-MOVE")):
            with pytest.raises(Unfetched, match=f"offers {words}") as refused:
                fetch(reached(pacs), [one], way=way, keep=keep)  # type: ignore[arg-type]
            assert refused.value.permanent
    with pytest.raises(Unfetched, match="gives no association") as refused:
        what_it_takes(reached(pacs, timeout_s=2))
    assert (refused.value.code, refused.value.permanent) == ("away", False)


def test_a_pacs_that_answers_without_end_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    held = [study(1, "20250101", SOPInstanceUID=f"1.2.{number}") for number in range(12)]
    monkeypatch.setattr("hilum.service.dicom.pacs.MOST_ANSWERS", 9)
    with archive(held) as pacs, pytest.raises(Unfetched, match="more than 9 answers"), asking(reached(pacs)) as ask:
        ask("IMAGE", {"StudyInstanceUID": "", "SeriesInstanceUID": "", "SOPInstanceUID": ""})


def test_a_film_that_is_too_large_for_us_ends_the_association() -> None:
    big = study(1, "20250101", Rows=2000, Columns=2000, PixelData=bytes(4_000_000))
    one = Found(study_instance_uid="1.2.3.1", series_instance_uid="1.2.3.1.1", sop_instance_uid=big.SOPInstanceUID)
    with archive([big]) as pacs, pytest.raises(Unfetched, match="did not finish a retrieve"):
        fetch(reached(pacs, largest_film_bytes=1024), [one], way="get", keep=lambda _: 0x0000)


def test_settings_explain_a_wrong_pacs(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="a PACS is asked over DICOM"):
        settings_in(tmp_path, pacs="x=https://archive.example/x")
    with pytest.raises(ConfigError, match="'pacs': PACS 'x' has no port"):
        settings_in(tmp_path, pacs="x=dicom://A@h")
    with pytest.raises(ConfigError, match="HILUM_PACS_RETRIEVE=move needs the DICOM listener"):
        settings_in(tmp_path, pacs="x=dicom://A@h:104", pacs_retrieve="move", dicom_port=None)
