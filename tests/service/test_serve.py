"""``hilum serve`` on a real bundle, as a process: films in by both doors, answers out, a clean stop."""

import contextlib
import hashlib
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pydicom
import pytest
from tests.bundle.small import small_bundle
from tests.processes import family

from hilum.client.api import Client
from hilum.errors import BundleError, FilmError, HilumError
from hilum.imaging.dicom_writing import FilmHeader, write_film
from hilum.keys import create_key
from hilum.records.access import Access
from hilum.records.database import Database
from hilum.records.store import Store
from hilum.service.bundled import open_bundled
from hilum.service.film_files import StoredFilm
from hilum.service.settings import read_settings
from hilum.service.versions import versions

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_bundle(tmp_path_factory.mktemp("bundle") / "small.hilum")


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A synthetic film: two dark fields on a bright ground, with a little noise."""
    rows, columns = np.mgrid[0:400, 0:360]
    ground = 2600 - 2200 * np.exp(-(((rows - 200) / 120) ** 2 + ((np.abs(columns - 180) - 80) / 55) ** 2))
    stored = (ground + np.random.default_rng(0).normal(0, 40, ground.shape)).clip(0, 4095).astype(np.uint16)
    path = tmp_path_factory.mktemp("film") / "synthetic.dcm"
    write_film(path, stored, FilmHeader(patient_id="SYN1", view_position="PA", body_part="CHEST", age_years=50))
    return path


def key_in(data: Path) -> str:
    """A reviewer's key, made before the service starts."""
    data.mkdir()
    database = Database(f"sqlite:///{data / 'hilum.db'}")
    access = Access(database)
    access.add_user("ada", ["reviewer", "admin"], password=None, actor="test")
    _, secret = access.add_key("ada", actor="test")
    database.close()
    return secret


@contextlib.contextmanager
def served(bundle: Path, data: Path) -> Iterator[tuple[subprocess.Popen[str], dict[str, str]]]:
    command = [sys.executable, "-m", "hilum", "serve", str(bundle), "--port", "0", "--dicom-port", "0"]
    with subprocess.Popen(
        [*command, "--data", str(data)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={
            "HILUM_LEAST_FREE_MB": "1",
            "PATH": "/usr/bin:/bin",
            "PYTHONPATH": str(ROOT / "src"),
            "OMP_NUM_THREADS": "1",
            "HILUM_RETAIN_PIXEL_DAYS": "1",
        },
    ) as process:
        assert process.stdout is not None
        said = [process.stdout.readline() for _ in range(4)]
        try:
            text = "".join(said)
            assert "not a medical device" in text, process.stderr and process.stderr.read()
            yield (
                process,
                {
                    "url": re.search(r"http://[\d.:]+", text)[0],  # type: ignore[index]
                    "dicom_port": re.search(r"HILUM@127.0.0.1:(\d+)", text)[1],  # type: ignore[index]
                },
            )
        finally:
            process.kill()


def threads(pid: int) -> list[int]:
    return [int(one.name) for one in Path(f"/proc/{pid}/task").iterdir()]


def test_a_bundle_is_served_and_stops_clean(bundle: Path, film: Path, tmp_path: Path) -> None:
    key = key_in(tmp_path / "data")
    with served(bundle, tmp_path / "data") as (process, address):
        with Client(address["url"], key=key) as client:
            assert client.ready()
            answer = client.submit(film, wait_s=60)
            assert answer.state in ("answered", "not-analysed"), answer.reasons
            assert answer.provenance.bundle_name == "small"
            assert client.film(answer.id).startswith(b"\x89PNG")
            if sys.platform == "linux":
                policies = {os.sched_getscheduler(thread) for one in family(process.pid) for thread in threads(one)}
                assert policies == {os.SCHED_BATCH}, "nobody breaks off a model that runs"
                assert len(family(process.pid)) >= 4, "model, decoders and listener are among them"
            for finding in answer.heatmaps:
                assert client.heatmap(answer.id, finding) != client.heatmap(answer.id, finding, layer=True)
        process.send_signal(signal.SIGTERM)
        assert process.wait(120) == 0
        assert process.stdout is not None
        assert "finishing what is in work" in process.stdout.read()
        assert process.stderr is not None
        lines = process.stderr.read().splitlines()
        assert json.loads(lines[0]).items() >= {"event": "start", **versions(read_settings(bundle=bundle))}.items()
        (told,) = [line for line in lines if "no such setting" in line]
        assert '"meant": "HILUM_RETAIN_PIXELS_DAYS"' in told


@pytest.mark.system
def test_what_was_acknowledged_before_sigterm_is_answered(bundle: Path, film: Path, tmp_path: Path) -> None:
    """Senders that go on while the service drains: each film is acknowledged and answered, or refused."""
    key = key_in(tmp_path / "data")
    kept, lock, begun = set[str](), threading.Lock(), threading.Event()
    content = film.read_bytes()

    def send(sender: int, url: str) -> None:
        with Client(url, key=key) as client:
            for number in range(1000):
                try:
                    answer = client.submit(renamed(content, sender * 1000 + number))
                except HilumError:
                    return  # drained: refused, or no longer there
                with lock:
                    kept.add(answer.id)
                    if len(kept) >= 6:
                        begun.set()

    with served(bundle, tmp_path / "data") as (process, address):
        senders = [threading.Thread(target=send, args=(one, address["url"])) for one in range(3)]
        for sender in senders:
            sender.start()
        assert begun.wait(120)
        process.send_signal(signal.SIGTERM)
        assert process.wait(120) == 0
        for sender in senders:
            sender.join(120)
    database = Database(f"sqlite:///{tmp_path / 'data' / 'hilum.db'}")
    films = {one.film_id: one.state for one in Store(database).films(limit=1000).films}
    database.close()
    assert kept <= films.keys()
    # What is in work when the time for draining is over waits for the next start.
    assert {films[one] for one in kept} <= {"answered", "not-analysed", "received"}


def renamed(content: bytes, number: int) -> bytes:
    """The same picture as another film."""
    film = pydicom.dcmread(io.BytesIO(content))
    film.SOPInstanceUID = film.file_meta.MediaStorageSOPInstanceUID = f"{film.SOPInstanceUID[:40]}.9.{number}"
    film.save_as(out := io.BytesIO())
    return out.getvalue()


@pytest.mark.system
def test_dcmtk_sends_a_film(bundle: Path, film: Path, tmp_path: Path, need: Callable[[object, str], None]) -> None:
    """DCMTK's storescu and echoscu, as a modality would."""
    need(shutil.which("storescu") and shutil.which("echoscu"), "DCMTK (storescu, echoscu)")
    key = key_in(tmp_path / "data")
    with served(bundle, tmp_path / "data") as (_, address), Client(address["url"], key=key) as client:
        peer = ["-aec", "HILUM", "127.0.0.1", address["dicom_port"]]
        subprocess.run(["echoscu", *peer], check=True, timeout=240)
        for _ in range(2):
            subprocess.run(["storescu", *peer, str(film)], check=True, timeout=240)
        (study,) = client.studies()
        assert client.study(study.id, wait_s=60).provenance.bundle_name == "small"


def test_where_keys_are_trusted_an_unsigned_bundle_does_not_start(bundle: Path, tmp_path: Path) -> None:
    create_key(tmp_path / "site.key")
    settings = read_settings(bundle=bundle, data=tmp_path, trusted_keys=f"{tmp_path / 'site.key.pub'}")
    with (
        pytest.raises(BundleError, match="'signature.json' is missing, but a signature by a trusted key is required"),
        open_bundled(settings),
    ):
        pass


def kept(path: Path) -> StoredFilm:
    return StoredFilm(path=path, file_sha256=hashlib.sha256(path.read_bytes()).hexdigest())


def test_a_site_brings_its_own_gate(bundle: Path, film: Path, tmp_path: Path) -> None:
    (tmp_path / "gate.json").write_text('{"views": ["LL"]}')
    with open_bundled(read_settings(bundle=bundle, data=tmp_path, gate_policy=tmp_path / "gate.json")) as bundled:
        answer = bundled.answer([bundled.prepare(kept(film))])[0]
        assert not answer.analysed
        assert "only LL are analysed" in answer.reason


def test_a_film_is_prepared_apart_and_answered(bundle: Path, film: Path, tmp_path: Path) -> None:
    with open_bundled(read_settings(bundle=bundle, data=tmp_path)) as bundled:
        assert bundled.model.name == "small"
        ready = bundled.prepare(kept(film))
        assert ready.identity.patient_id == "SYN1"
        assert ready.identity.sop_instance_uid
        answers = bundled.answer([ready, ready])
        assert [answer.analysed for answer in answers] == [True, True]
        assert answers[0].risk == pytest.approx(1 - answers[0].assessment["probs"]["normal"], abs=1e-5)
        assert {heatmap.finding for heatmap in answers[0].heatmaps} == {"normal", "pneumonia", "covid-19"}
        assert "SYN1" not in str(answers[0].assessment)
        (tmp_path / "bad").write_bytes(b"\xff\xd8\xff")
        for read in (bundled.prepare, bundled.film):
            with pytest.raises(FilmError):
                read(kept(tmp_path / "bad"))
