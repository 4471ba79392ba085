"""Models are exchanged while films come in: none is dropped, each answer keeps its model, a bad one changes nothing."""

import json
import os
import signal
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
from sqlalchemy import text
from tests.bundle.small import small_bundle, small_graph
from tests.bundle.test_onnx_file import changed, in_opsets
from tests.bundle.test_reading import packed
from tests.service.conftest import let_in, settings_in
from typer.testing import CliRunner

from hilum.bundle.archive import zip_bytes
from hilum.bundle.reading import read_bundle
from hilum.cli.verbs import app
from hilum.errors import BundleError, ServiceError, UsageError
from hilum.imaging.dicom_writing import FilmHeader, film_bytes
from hilum.keys import create_key
from hilum.records.database import Database
from hilum.records.registry import Registered, Registry, assigned
from hilum.records.shadows import trial_counts
from hilum.service.app import Running, _look_again, running
from hilum.service.shelf import Shelf

BINARY = {"Content-Type": "application/octet-stream"}


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("bundles")
    return {
        version: small_bundle(folder / f"{version}.hilum", version=version) for version in ("1.0", "2.0", "3.0", "4.0")
    }


@pytest.fixture(scope="module")
def digests(bundles: dict[str, Path]) -> dict[str, str]:
    return {version: read_bundle(path).sha256 for version, path in bundles.items()}


def film(number: int, study: str = "") -> bytes:
    """A synthetic film: two dark fields on a bright ground, with noise of its own."""
    rows, columns = np.mgrid[0:400, 0:360]
    ground = 2600 - 2200 * np.exp(-(((rows - 200) / 120) ** 2 + ((np.abs(columns - 180) - 80) / 55) ** 2))
    noise = np.random.default_rng(number).normal(0, 40, ground.shape)
    header = FilmHeader(
        patient_id=f"SYN{number}", view_position="PA", body_part="CHEST", age_years=50, study_instance_uid=study or None
    )
    return film_bytes((ground + noise).clip(0, 4095).astype(np.uint16), header)[0]


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, bundles: dict[str, Path]) -> Iterator[Running]:
    settings = settings_in(tmp_path_factory.mktemp("switching"), bundle=bundles["1.0"], dicom_port=None, threads=1)
    with running(settings) as started:
        yield started


@pytest.fixture(scope="module")
def http(service: Running) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=service.url, timeout=90, headers=let_in(service, "model-manager")) as client:
        yield client


def post_film(http: httpx.Client, content: bytes, wait: float = 30) -> httpx.Response:
    kind = {"Content-Type": "application/dicom"}
    reply = http.post("/api/v1/studies", content=content, params={"wait": wait}, headers=kind)
    assert reply.status_code in (200, 201), reply.text
    return reply


def answered_by(http: httpx.Client, content: bytes) -> str:
    return str(post_film(http, content).json()["answer"]["provenance"]["bundle_version"])


def activate(http: httpx.Client, sha256: str) -> httpx.Response:
    return http.post("/api/v1/models/active", json={"sha256": sha256, "reason": "A test of the exchange."})


def test_the_console_puts_a_bundle_into_production_of_a_running_service(
    service: Running, http: httpx.Client, bundles: dict[str, Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def hilum(bundle: Path) -> str:
        words = ["bundle", "activate", str(bundle), "--reason", "Asked for.", "--url", service.url]
        done = CliRunner().invoke(app, words)
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        return done.output

    monkeypatch.delenv("HILUM_API_KEY", raising=False)
    monkeypatch.delenv("HILUM_KEY", raising=False)
    with pytest.raises(UsageError, match="Put one with models:write into HILUM_API_KEY"):
        hilum(bundles["1.0"])
    monkeypatch.setenv("HILUM_API_KEY", http.headers["Authorization"].split()[1])
    with pytest.raises(UsageError, match="is no file"):
        hilum(tmp_path)
    (tmp_path / "bad.hilum").write_bytes(b"PK nothing")
    with pytest.raises(ServiceError, match="bundle"):
        hilum(tmp_path / "bad.hilum")
    assert "rename it" not in hilum(bundles["1.0"])
    monkeypatch.setenv("HILUM_KEY", http.headers["Authorization"].split()[1])
    monkeypatch.setenv("HILUM_API_KEY", "")
    told = hilum(bundles["1.0"])
    assert "the key is taken from HILUM_KEY, which is HILUM_API_KEY now; rename it." in told
    assert "is in production" in told
    assert http.get("/api/v1/models/active").json()["version"] == "1.0"
    page = http.get("/models").text
    assert "As tested" in page


def test_a_model_is_exchanged_under_load_and_no_film_is_dropped(
    service: Running, http: httpx.Client, bundles: dict[str, Path], digests: dict[str, str]
) -> None:
    sent = http.post("/api/v1/models", content=bundles["2.0"].read_bytes(), headers=BINARY)
    assert (sent.status_code, sent.json()["version"]) == (201, "2.0")
    assert http.get("/api/v1/models/active").json()["version"] == "1.0"
    before = sum(service.room.store.counts().values())
    versions: list[list[str]] = [[] for _ in range(4)]
    stop = threading.Event()

    def send(sender: int) -> None:
        with httpx.Client(base_url=service.url, timeout=90, headers=http.headers) as own:
            number = 1000 * (sender + 1)
            while not stop.is_set():
                number += 1
                versions[sender].append(answered_by(own, film(number)))

    senders = [threading.Thread(target=send, args=(sender,)) for sender in range(len(versions))]
    for sender in senders:
        sender.start()
    until(lambda: all(versions))
    reply = activate(http, digests["2.0"])
    assert (reply.status_code, reply.json()["version"]) == (200, "2.0"), reply.text
    counts = [len(one) for one in versions]
    until(lambda: all(len(one) > count + 2 for one, count in zip(versions, counts, strict=True)))
    stop.set()
    for sender in senders:
        sender.join()
    for of_one in versions:
        assert (of_one[0], of_one[-1]) == ("1.0", "2.0")
        assert of_one == sorted(of_one), "one after the other, and never back"
    assert service.room.store.counts() == {"answered": before + sum(map(len, versions))}, "each that was sent"
    assert service.room.intake.model_sha256 == digests["2.0"]
    with service.room.database.read() as session:
        acts = session.execute(text("SELECT act, actor FROM audit WHERE act LIKE 'model.%' ORDER BY seq")).fetchall()
    told = [tuple(row) for row in acts]
    assert told[:2] == [("model.registered", "service"), ("model.begin", "service")]
    assert told[-2:] == [("model.registered", "test-model-manager"), ("model.activate", "test-model-manager")]
    switch = service.room.switch
    assert switch is not None
    until(lambda: not switch._retired)  # the old one is closed once its last film is answered


def test_a_bad_model_is_refused_by_name_and_the_active_one_stays(
    http: httpx.Client, bundles: dict[str, Path], digests: dict[str, str]
) -> None:
    before = http.get("/api/v1/models/active").json()
    broken = http.post("/api/v1/models", content=bundles["3.0"].read_bytes()[:-50], headers=BINARY)
    assert broken.status_code == 422
    assert broken.json()["type"] == "urn:hilum:problem:bundle-refused"
    unknown = activate(http, "0" * 64)
    assert (unknown.status_code, "No bundle 000000000000 is here" in unknown.json()["detail"]) == (422, True)
    assert activate(http, "nonsense").status_code == 422
    assert http.get("/api/v1/models/active").json() == before


def archived(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def tampered(path: Path, change: str) -> bytes:
    """A whole bundle after something happened to it; where hashes are right, an insider made them so."""
    listed = archived(path)
    if change == "truncated":
        return zip_bytes({**listed, "model.onnx": listed["model.onnx"][:-9]})
    if change == "mutated":
        return zip_bytes({**listed, "bundle.json": listed["bundle.json"].replace(b"0.", b"1.", 1)})
    if change == "swapped":
        one, other = "reference/mc_mean.npy", "reference/probabilities.npy"
        return zip_bytes({**listed, one: listed[other], other: listed[one]})
    contents = dict(read_bundle(path).contents)
    if change == "not numbers":
        contents["model.onnx"] = small_graph(w2=np.full((6, 3), np.nan, np.float32))
    elif change == "operator set":
        contents["model.onnx"] = in_opsets(onnx=16)
    elif change == "other labels":
        contents["model.onnx"] = changed(findings='["normal", "tb"]')
    elif change == "newer schema":
        contents["bundle.json"] = json.dumps(json.loads(contents["bundle.json"]) | {"schema_version": 2}).encode()
    return packed(contents)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("truncated", "'model.onnx'"),
        ("mutated", "'bundle.json' was changed"),
        ("swapped", "'reference/mc_mean.npy' was changed"),
        ("not numbers", "model.onnx holds weights that are not numbers"),
        ("operator set", "model.onnx is written in the operator sets: ONNX 16"),
        ("other labels", "model.onnx was exported for the findings"),
        ("newer schema", "bundle.json has schema_version 2"),
    ],
)
def test_whatever_is_wrong_with_a_bundle_the_active_one_goes_on_answering(
    http: httpx.Client, bundles: dict[str, Path], change: str, words: str
) -> None:
    before = http.get("/api/v1/models/active").json()
    refused = http.post("/api/v1/models", content=tampered(bundles["3.0"], change), headers=BINARY)
    assert (refused.status_code, words in refused.json()["detail"]) == (422, True), refused.text
    assert http.get("/api/v1/models/active").json() == before
    assert answered_by(http, film(400 + len(change))) == before["version"]


def test_a_model_that_fails_its_self_test_is_refused_by_name(
    service: Running, http: httpx.Client, bundles: dict[str, Path], tmp_path: Path
) -> None:
    """Its references are those of other tiles: whole and signed, and yet not what it answers here."""
    from dataclasses import replace

    from hilum.bundle.writing import write_bundle

    opened = read_bundle(bundles["1.0"])
    outputs = {name: values + 1 for name, values in opened.reference.outputs.items()}
    path = write_bundle(
        tmp_path / "bad.hilum",
        info=replace(opened.info, version="bad"),
        model_onnx=opened.model,
        reference=replace(opened.reference, outputs=outputs),
        card_markdown=opened.card,
    )
    sent = http.post("/api/v1/models", content=path.read_bytes(), headers=BINARY)
    reply = activate(http, sent.json()["sha256"])
    assert reply.status_code == 422
    assert "Model small bad" in reply.json()["detail"]
    assert "fails its self-test here" in reply.json()["detail"]
    assert "What was active stays active" in reply.json()["detail"]
    assert answered_by(http, film(201)) != "bad"


def test_a_share_of_the_studies_goes_to_a_candidate(
    service: Running, http: httpx.Client, bundles: dict[str, Path], digests: dict[str, str]
) -> None:
    """Whoever writes the registry, the service follows; which model answers is a function of the study alone."""
    registry = Registry(service.room.database)
    current = registry.current()
    assert current is not None
    versions = {sha256: version for version, sha256 in digests.items()}
    before, candidate = versions[current.production], digests["3.0"]
    sent = http.post("/api/v1/models", content=bundles["3.0"].read_bytes(), headers=BINARY)
    assert sent.json()["sha256"] == candidate
    unseen = registry.shadow(candidate, actor="test", reason="Trial.")
    switch = service.room.switch
    assert switch is not None
    until(lambda: switch.holds.seq == unseen.seq)
    assert answered_by(http, film(290)) == before, "a candidate in shadow is shown to nobody"
    with service.room.database.read() as session:
        assert trial_counts(session, unseen)["disagreed"] == (0, 1), "and is kept beside: these two answer alike"
    holds = registry.canary(candidate, 0.5, actor="test", reason="Trial.")
    until(lambda: switch.holds.seq == holds.seq)
    for number in range(4):
        study = f"1.2.826.0.1.3680043.10.77.{number}"
        expected = "3.0" if assigned(holds, study).answers == candidate else before
        assert answered_by(http, film(300 + number, study)) == expected
    http.post("/api/v1/models", content=bundles["4.0"].read_bytes(), headers=BINARY)
    refused = activate(http, digests["4.0"])
    assert refused.status_code == 422
    assert "is on trial" in refused.json()["detail"]
    registry.rollback(actor="test", reason="Enough.")
    until(lambda: switch.holds.candidate is None)


@pytest.fixture
def apart(tmp_path: Path, bundles: dict[str, Path]) -> Iterator[tuple[Running, httpx.Client]]:
    """A service of one test's own, whose kills and films the others need not know of."""
    with (
        running(settings_in(tmp_path, bundle=bundles["1.0"], threads=1)) as started,
        httpx.Client(base_url=started.url, timeout=90, headers=let_in(started, "model-manager")) as client,
    ):
        yield started, client


def test_a_killed_model_costs_no_answer(apart: tuple[Running, httpx.Client]) -> None:
    service, http = apart
    switch = service.room.switch
    assert switch is not None
    process, ids, killed = switch._now.production.bundled._process, [], {None}
    for number in range(400, 408):
        ids.append(post_film(http, film(number), wait=0).json()["id"])
        if number % 4 == 0:
            until(lambda: process.process_id not in killed)  # one that is dead keeps its number until it is replaced
            killed.add(process.process_id)
            assert process.process_id is not None  # 0 would be our own group
            os.kill(process.process_id, signal.SIGKILL)
    for film_id in ids:
        study = http.get(f"/api/v1/studies/{film_id}", params={"wait": 60}).json()
        assert study["state"] == "answered", study
    until(lambda: http.get("/health/ready").status_code == 200)
    until(lambda: "hilum_model_restarts_total 2.0" in http.get("/metrics").text)


def test_what_is_in_production_survives_a_restart(
    bundles: dict[str, Path], digests: dict[str, str], tmp_path: Path
) -> None:
    """The records say it; a bundle that was never seen before is what somebody wants now."""
    (tmp_path / "chest.hilum").write_bytes(bundles["1.0"].read_bytes())
    settings = settings_in(tmp_path, bundle=tmp_path / "chest.hilum", dicom_port=None, threads=1)

    def model(after: Callable[[Running], object] = lambda _: None) -> str:
        with running(settings) as started:
            after(started)
            return started.room.answering.model.version

    def change_it(started: Running) -> None:
        assert started.room.switch is not None
        with started.room.switch.arriving() as copy:
            copy.write_bytes(bundles["2.0"].read_bytes())
            started.room.switch.register(copy, actor="test")
        started.room.switch.activate(digests["2.0"], actor="test", reason="Better.")

    def look_again(started: Running) -> None:
        assert "stays" in _look_again(started.room)
        (tmp_path / "chest.hilum").write_bytes(bundles["3.0"].read_bytes()[:-9])
        assert "The bundle was not taken" in _look_again(started.room)
        (tmp_path / "chest.hilum").write_bytes(bundles["3.0"].read_bytes())
        assert "3.0" in _look_again(started.room)

    assert model(change_it) == "2.0"
    assert model() == "2.0"
    (tmp_path / "chest.hilum").write_bytes(bundles["2.0"].read_bytes())
    assert model(look_again) == "3.0"
    (tmp_path / "chest.hilum").write_bytes(bundles["1.0"].read_bytes())
    assert model() == "3.0", "1.0 is known: the records count"


def test_where_a_plan_is_in_force_nothing_goes_past_it_unsaid(
    bundles: dict[str, Path], digests: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over REST it is refused until said; a start or a signal with another bundle changes nothing."""
    (tmp_path / "chest.hilum").write_bytes(bundles["1.0"].read_bytes())
    at = settings_in(tmp_path, bundle=tmp_path / "chest.hilum", dicom_port=None, threads=1, plan_in_force=True)
    with running(at) as started:
        (tmp_path / "chest.hilum").write_bytes(bundles["3.0"].read_bytes())
        assert "The bundle was not taken: A change control plan is in force" in _look_again(started.room)
    with running(at) as started:
        assert started.room.answering.model.version == "1.0", "an unseen bundle at the start is no way round"
        key = let_in(started, "model-manager")
        with httpx.Client(base_url=started.url, timeout=90, headers=key) as http:
            http.post("/api/v1/models", content=bundles["2.0"].read_bytes(), headers=BINARY)
            refused = activate(http, digests["2.0"])
            assert (refused.status_code, refused.json()["type"]) == (409, "urn:hilum:problem:plan-in-force")
            assert "past_plan, --past-plan" in refused.json()["detail"]
            assert "came past the change control plan" not in http.get("/models").text
            monkeypatch.setenv("HILUM_API_KEY", key["Authorization"].split()[1])
            words = ["bundle", "activate", str(bundles["2.0"]), "--reason", "It is urgent.", "--url", started.url]
            told = CliRunner().invoke(app, words)
            assert "change control plan is in force" in str(told.exception)
            done = CliRunner().invoke(app, [*words, "--past-plan"])
            assert "2.0" in done.output
            page = http.get("/models").text
        assert "came past the change control plan</strong>, by test-model-manager" in page
        assert "It is urgent." in page
        assert '<strong class="bad">override</strong>' in page
        with started.room.database.read() as session:
            query = text("SELECT act, actor FROM audit WHERE act IN ('model.override', 'model.activate')")
            rows = session.execute(query).fetchall()
        assert [tuple(row) for row in rows] == [("model.override", "test-model-manager")]


def test_without_the_bundle_in_production_it_does_not_start(
    bundles: dict[str, Path], digests: dict[str, str], tmp_path: Path
) -> None:
    settings = settings_in(tmp_path, bundle=bundles["1.0"], dicom_port=None, threads=1)
    settings.data.mkdir()
    database = Database(settings.url)
    registry = Registry(database)
    for version in ("1.0", "2.0"):
        where = str(tmp_path / "gone.hilum")
        registry.register(
            Registered(sha256=digests[version], name="small", version=version, location=where), actor="test"
        )
    registry.begin(digests["2.0"], actor="test", reason="Elsewhere.")
    database.close()
    missing = "is in production by the records, and its bundle is not here"
    with pytest.raises(ServiceError, match=missing), running(settings):
        pass


def test_a_shelf_keeps_what_it_verified(bundles: dict[str, Path], digests: dict[str, str], tmp_path: Path) -> None:
    create_key(tmp_path / "site.key")
    from hilum.bundle.signature import read_trusted

    shelf = Shelf(tmp_path / "models")
    assert shelf.put(bundles["1.0"]).sha256 == digests["1.0"]
    assert shelf.open(digests["1.0"]).info.version == "1.0"
    strict = Shelf(tmp_path / "models", read_trusted([tmp_path / "site.key.pub"]))
    with pytest.raises(BundleError, match="signature by a trusted key is required"):
        strict.open(digests["1.0"])
    with pytest.raises(BundleError, match="signature by a trusted key is required"):
        strict.put(bundles["2.0"])
    shelf.path(digests["2.0"]).write_bytes(bundles["1.0"].read_bytes())
    with pytest.raises(BundleError, match="Send the right one again"):
        shelf.open(digests["2.0"])
    assert not list((tmp_path / "models").glob(".*"))


def test_a_fixed_model_can_not_be_exchanged(tmp_path: Path) -> None:
    from tests.service.small import SmallDrawing, SmallModel

    settings = settings_in(tmp_path, dicom_port=None)
    with running(settings, answering=SmallModel(), drawing=SmallDrawing()) as started:
        with httpx.Client(base_url=started.url, headers=let_in(started, "model-manager")) as client:
            assert client.get("/api/v1/models/active").status_code == 409
        assert "no bundle" in _look_again(started.room)


def test_the_registry_activates_one_that_is_not_in_production(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'hilum.db'}")
    registry = Registry(database)
    for sha256 in ("a" * 64, "b" * 64):
        registry.register(Registered(sha256=sha256, name="m", version=sha256[0], location=""), actor="test")
    registry.begin("a" * 64, actor="test", reason="First.")
    with pytest.raises(UsageError, match="is in production already"):
        registry.activate("a" * 64, actor="test", reason="Again.")
    assert registry.activate("b" * 64, actor="test", reason="Better.").act == "activate"
    assert registry.rollback(actor="test", reason="Worse.").production == "a" * 64
    database.close()


def until(happened: Callable[[], bool], within_s: float = 120) -> None:
    deadline = time.monotonic() + within_s
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.02)
