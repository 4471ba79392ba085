"""What a film's header says comes out only where it is meant to: every attribute has a canary of its own."""

import contextlib
import io
import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydicom.datadict import keyword_for_tag
from tests.bundle.small import small_bundle
from tests.service.canaries import TAGS, canary, canary_film, found
from tests.service.conftest import let_in, settings_in
from tests.service.test_stow_in import JSON, RELATED, body
from typer.testing import CliRunner

from hilum.cli.verbs import app
from hilum.data_keys import new_data_key
from hilum.records.roles import ROLES
from hilum.service import logs
from hilum.service.app import Running, create_app, running
from hilum.service.dicom.sending import Peer, send_films
from hilum.service.dicom.source_film import COPIED
from hilum.service.logs import start_logs
from hilum.service.rest.access import declared

DICOM = {"Content-Type": "application/dicom"}
AWAY = "away=dicom://AWAY@127.0.0.1:1"
ENDLESS = "/api/v1/events"
USUAL = {
    "SOPClassUID": "1.2.840.10008.5.1.4.1.1.1.1", "Modality": "DX", "PresentationIntentType": "FOR PRESENTATION",
    "BodyPartExamined": "CHEST", "ViewPosition": "PA",
}  # fmt: skip

UIDS = {"StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"}
OF_STUDY = {
    "AccessionNumber", "IssuerOfPatientID", "PatientBirthDate", "PatientID", "PatientName", "PatientSex",
    "ReferringPhysicianName", "StudyDate", "StudyDescription", "StudyID", "StudyInstanceUID", "StudyTime",
    "TimezoneOffsetFromUTC",
}  # fmt: skip
OF_SERIES = OF_STUDY | {
    "PerformedProcedureStepStartDate", "PerformedProcedureStepStartTime", "SeriesDescription", "SeriesInstanceUID",
}  # fmt: skip
NO_TERMS = {"Modality", "SOPClassUID"}
"""Of the film whose gate refuses it; the others have terms there."""

ALLOWED: dict[str, tuple[set[str], str]] = {
    "GET /": ({"AccessionNumber"}, "a reader knows the film by it in the PACS"),
    "GET /films/{film_id}": ({"AccessionNumber"}, "the same"),
    "search of the worklist": ({"AccessionNumber"}, "what was searched for stands in its field again"),
    "STOW": (UIDS, "PS3.18 10.5.3: what is stored, and where it is to be had"),
    "GET /dicom-web/studies": (OF_STUDY | NO_TERMS, "PS3.18 10.6.3: what a search tells of a study"),
    "GET /dicom-web/studies/{study}/series": (OF_SERIES, "of a series"),
    "GET /dicom-web/series": (OF_SERIES | NO_TERMS | {"BodyPartExamined"}, "of a series"),
    "GET /dicom-web/instances": (OF_SERIES | UIDS | NO_TERMS | {"BodyPartExamined"}, "of an instance"),
    "GET /dicom-web/studies/{study}/instances": (OF_SERIES | UIDS, "of an instance"),
    "GET /dicom-web/studies/{study}/series/{series}/instances": (OF_SERIES | UIDS, "of an instance"),
    "files": (
        {"ManufacturerModelName", "StudyDate"},
        "docs/operations.md, Data keys: a class of the monitor's; a column",
    ),
    "backup": ({"ManufacturerModelName", "StudyDate"}, "holds the same records"),
}
"""Where which attributes come out, and why; anywhere else is a leak, and so is any other attribute."""

FILM = {keyword_for_tag(tag) or f"{tag:08X}" for tag in TAGS} | {"SourceApplicationEntityTitle"}
"""All that has a canary: a film that is fetched is told whole."""

VERBS = (
    ("audit", "search"), ("audit", "verify"), ("change", "history"), ("keys", "status"), ("labels", "collect"),
    ("monitor", "alarms"), ("pacs", "list"), ("pacs", "list", "--json"), ("results", "list"),
    ("results", "list", "--json"), ("retrain", "status"), ("users", "list"), ("users", "list-keys"),
)  # fmt: skip

NO_PIXELS = {("SR", "{numbers}"), ("SR", "{tag}")}
IN_NO_FILM = {*USUAL, "PhotometricInterpretation", "SourceApplicationEntityTitle"}
"""What has no canary in the film that is fetched; the head of its file is the service's own."""


class Watched:
    """A service that was sent films full of canaries, and what came out of it by where."""

    def __init__(self, service: Running, http: httpx.Client) -> None:
        self.service, self.http = service, http
        self.out: dict[str, bytes] = {}
        self.films: dict[str, str] = {}
        """Ids by letter."""

    def heard(self, where: str, content: bytes) -> None:
        self.out[where] = self.out.get(where, b"") + content

    def asked(self, where: str, method: str, address: str, **more: Any) -> httpx.Response:
        reply = self.http.request(method, address, **more)
        self.heard(where, str(reply.headers).encode() + reply.content)
        return reply

    def leaks(self) -> dict[str, set[str]]:
        """Canaries that are somewhere else than where they are allowed."""
        there = {where: set(found(content)) - ALLOWED.get(where, (set(), ""))[0] for where, content in self.out.items()}
        return {where: attributes for where, attributes in there.items() if attributes}


@contextlib.contextmanager
def log_of() -> Iterator[io.StringIO]:
    foreign, out = logging.getLogger("uvicorn.error"), io.StringIO()
    before = list(foreign.handlers), foreign.propagate, foreign.level
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(logs, "_log", logs._log)
        start_logs(out, logging.DEBUG)
        yield out
    foreign.handlers[:], foreign.propagate = before[:2]
    foreign.setLevel(before[2])


@contextlib.contextmanager
def watched(folder: Path) -> Iterator[Watched]:
    """Nothing that it sends results to, or asks for earlier films, is there."""
    bundle = small_bundle(folder / "small.hilum")
    key = new_data_key().text
    peers = {"results_to": (AWAY,), "results_organization": "Org", "undo_s": 0, "pacs": AWAY}
    settings = settings_in(folder, dicom_port=0, bundle=bundle, data_key=key, threads=1, **peers)
    with log_of() as log:
        with (
            running(settings) as service,
            httpx.Client(base_url=service.url, timeout=120, headers=let_in(service, *ROLES)) as http,
        ):
            made = Watched(service, http)
            send(made, folder)
            yield made
            keep_aside(made, folder, key)
            made.heard("files", whole(settings.data))
        made.heard("files", whole(settings.data))  # what was in SQLite's log before
        made.heard("names of files", "\n".join(str(path.relative_to(folder)) for path in folder.rglob("*")).encode())
        made.heard("log", log.getvalue().encode())


def send(made: Watched, folder: Path) -> None:
    """One film by each door that is answered or refused, and those that can't be read, or claim another's identity."""
    posted = {
        "A": canary_film("A"),
        "D": canary_film("D", **USUAL, PhotometricInterpretation="QANARYD00280004"),
        "E": canary_film("E", **USUAL, TransferSyntaxUID="2.25.9740000131088"),
        "F": canary_film("F", **USUAL)[:-1000],
    }
    (folder / "B.dcm").write_bytes(canary_film("B", **USUAL))
    peer = Peer(host="127.0.0.1", port=made.service.dicom_port or 0, ae_title="HILUM")
    assert send_films([folder / "B.dcm"], peer, timeout_s=120) == (0,)
    (folder / "B.dcm").unlink()
    posted["G"] = canary_film("G", **USUAL, SOPInstanceUID=canary("B", "SOPInstanceUID"))
    charset = "QANARYC00080005"
    web = body(canary_film("C", **USUAL, SpecificCharacterSet=charset))
    assert made.asked("STOW", "POST", "/dicom-web/studies", content=web, headers=RELATED | JSON).status_code == 200
    ids = [film["id"] for film in made.http.get("/api/v1/studies").json()["studies"]]
    made.films = dict(zip("CB", ids, strict=True))
    for letter, content in posted.items():
        address = "/api/v1/studies?wait=60"
        made.films[letter] = made.asked("POST", "POST", address, content=content, headers=DICOM).json()["id"]
    for letter, state in zip(
        "ABCDEFG", ("not-analysed", "answered", "answered", *["failed"] * 3, "quarantined"), strict=True
    ):
        film = made.http.get(f"/api/v1/studies/{made.films[letter]}?wait=60").json()
        assert film["state"] == state, (letter, film["reason"])
    for letter in "BC":
        review = {"json": {"decision": "agree", "comment": "Well."}, "headers": {"If-None-Match": "*"}}
        assert made.asked("PUT", "PUT", f"/api/v1/studies/{made.films[letter]}/reviews/mine", **review).is_success
    for letter in "ABC":
        made.service.room.dicomweb.indexer.now(made.films[letter])


def keep_aside(made: Watched, folder: Path, key: str) -> None:
    """Every verb that lists, the audit's export, and a backup."""
    given = {"HILUM_DATA": str(made.service.room.settings.data), "HILUM_DATA_KEY": key, "COLUMNS": "400"}
    export, kept = folder / "audit.jsonl", folder / "kept"
    shown = [("audit", "show", made.films[letter]) for letter in "AB"]
    for verb in (*VERBS, *shown, ("audit", "export", str(export)), ("backup", str(kept))):
        done = CliRunner().invoke(app, list(verb), env=given)
        assert done.exit_code == 0, (verb, done.output, done.exception)
        made.heard(f"hilum {verb[0]} {verb[1]}", done.output.encode())
    made.heard("export of the audit", export.read_bytes())
    made.heard("backup", whole(kept))


def whole(folder: Path) -> bytes:
    return b"\n".join(path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file())


def objects(made: Watched, letter: str) -> list[dict[str, str]]:
    """A film and its results, as DICOMweb tells of them."""
    told = made.http.get("/dicom-web/instances", params={"PatientID": canary(letter, "PatientID")}).json()
    keys = {"study": "0020000D", "series": "0020000E", "sop": "00080018", "modality": "00080060"}
    return [{name: one[tag]["Value"][0] for name, tag in keys.items()} for one in told]


def gets(made: Watched) -> list[str]:
    """Every route that answers a GET: those of the description, the pages, DICOMweb and what operations ask."""
    application = create_app(made.service.room)
    routes = [path for (method, path) in declared(application) if method == "GET" and path != ENDLESS]
    assert {path for path, verbs in application.openapi()["paths"].items() if "get" in verbs} <= {*routes, ENDLESS}
    return routes


def address(route: str, **values: str) -> str:
    return re.sub(r"\{(\w+)[^}]*\}", lambda part: values[part[1]], route)


def test_every_attribute_of_the_film_has_a_canary_and_is_found() -> None:
    content = canary_film("H", SpecificCharacterSet="QANARYH00080005", PhotometricInterpretation="QANARYH00280004")
    assert set(found(content)) - {"CommandGroupLength"} == FILM, "and the preamble"
    assert all(films == {"H"} for films in found(content).values())
    assert len(FILM) > 3000


@pytest.mark.system
def test_what_a_header_says_comes_out_where_it_is_meant_to(tmp_path: Path) -> None:
    with watched(tmp_path) as made:
        for route in gets(made):
            if "{sop}" in route or "metadata" in route or route.endswith(("{study}", "{series}")):
                continue
            one = {"study": canary("C", "StudyInstanceUID"), "series": canary("C", "SeriesInstanceUID"), "name": "none"}
            for film in made.films.values() if "film_id" in route else [""]:
                made.asked(f"GET {route}", "GET", address(route, **one, film_id=film, finding="pneumonia"))
        wrong(made)
        with made.http.stream("GET", f"{ENDLESS}?after=0") as stream:
            for chunk in stream.iter_bytes():
                made.heard(f"GET {ENDLESS}", chunk)
                if made.out[f"GET {ENDLESS}"].count(b"answered") >= 2:
                    break
        assert made.films["B"].encode() in made.out[f"GET {ENDLESS}"]
    assert made.leaks() == {}
    for where, (attributes, why) in ALLOWED.items():
        assert set(found(made.out[where])) == attributes, f"{where}: {why}"
    assert {"A", "B", "C"} <= found(made.out["GET /"])["AccessionNumber"]


def wrong(made: Watched) -> None:
    """Requests that are refused, or find nothing, though they name the patient."""
    for keyword in ("PatientID", "PatientName", "AccessionNumber", "StudyInstanceUID"):
        said = canary("B", keyword)
        for path in (
            f"/{said}", f"/api/v1/studies/{said}", f"/films/{said}", f"/api/v1/worklist?status={said}",
            f"/api/v1/worklist?accession={said}", f"/api/v1/audit?limit={said}", f"/dicom-web/studies?{said}={said}",
            f"/dicom-web/studies?{keyword}={said}&limit=x", f"/dicom-web/studies/{said}x",
            f"/dicom-web/studies/{said}/series/1.2.9/metadata", f"/reader-study/{said}x",
        ):  # fmt: skip
            made.asked("what is wrong", "GET", path)
        made.asked("what is wrong", "PUT", f"/api/v1/studies/{said}/reviews/mine", json={"decision": said})
        made.asked("what is wrong", "POST", "/api/v1/privacy/erase", json={"patient_id": said, "study_uid": said})
    made.asked("search of the worklist", "GET", f"/?accession={canary('B', 'AccessionNumber')}")


@pytest.mark.system
def test_what_dicomweb_fetches_is_the_film_and_what_results_take_over(tmp_path: Path) -> None:
    with watched(tmp_path) as made:
        told = objects(made, "C")
        assert sorted(one["modality"] for one in told) == ["DX", "OT", "SR", "SR"]
        for route in (route for route in gets(made) if "{study}" in route):
            for one in told if "{sop}" in route else told[:1]:
                where = one["modality"] if "{sop}" in route else "the study"
                place = address(route, **one, numbers="1", tag="7FE00010")
                reply = made.asked(f"{where} {route.rpartition('/')[2]}", "GET", place)
                assert reply.is_success or (where, route.rpartition("/")[2]) in NO_PIXELS, (place, reply.text)
    out = {where: set(found(content)) for where, content in made.out.items()}
    assert FILM - out["DX {sop}"] == IN_NO_FILM
    assert FILM - out["DX metadata"] <= IN_NO_FILM | {"SpecificCharacterSet", "AvailableTransferSyntaxUID"}, "told anew"
    for where in ("SR {sop}", "SR metadata", "OT {sop}", "OT metadata"):
        assert out[where] - set(COPIED) <= UIDS, "the film's own UIDs: it is referred to"
    for where in ("DX {numbers}", "DX {tag}", "OT {numbers}", "OT {tag}"):
        assert out[where] <= UIDS, "part headers say what a part is of"
