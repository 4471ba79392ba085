"""What the service erased goes from retraining too: copies, and the versions that hold them; the audit says so."""

import hashlib
import json
import shutil
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from tests.runs.site import film_name, said
from typer.testing import CliRunner

from hilum.cli.forgetting import forget_erased
from hilum.cli.retraining import _not_retired
from hilum.cli.verbs import app
from hilum.datasets.manifest import Manifest
from hilum.errors import DataError, UsageError
from hilum.records.database import Database
from hilum.records.erasure import Eraser
from hilum.records.schema import FilmRow
from hilum.records.store import now
from hilum.runs import forgetting
from hilum.runs.rounds import Round, Rounds

AT = "2026-03-01T00:00:00Z"
ROUND = Round(
    kind="retrained",
    trigger="",
    alarm="",
    run="runs/first",
    run_fingerprint="1" * 64,
    recipe="2" * 64,
    current="3" * 64,
    first="3" * 64,
    plan_sha256="4" * 64,
    update=1,
    name="chest",
    version="",
    trained_by="ds",
    proposer="ds",
    reason="x",
    at=AT,
)


class Retraining:
    """A service that had four films, of which retraining took out three into its second version."""

    def __init__(self, folder: Path) -> None:
        self.data, self.out = folder / "data", folder / "retraining"
        self.rounds = Rounds(self.out)
        self.data.mkdir()
        with closing(Database(f"sqlite:///{self.data / 'hilum.db'}")) as database, database.write() as session:
            for number in range(4):
                row = FilmRow(id=film_name(number), received_at=datetime.now(UTC), origin="rest", format="png")
                row.content_sha256, row.file_sha256, row.size, row.state = f"{number:064x}", "", 1, "answered"
                session.add(row)
        self.rounds.released.mkdir(parents=True)
        for number in range(3):
            (self.rounds.released / f"{film_name(number)}.png").write_bytes(b"a film")
        table = "".join(f"{film_name(number)}.png,normal,{film_name(number)}\n" for number in range(3))
        (self.rounds.released / "labels.csv").write_text(f"path,label,opaque_id\n{table}")
        first = self.manifest({"archive/a.png": "test", "archive/b.png": "fit"})
        self.rounds.add(first, kind="adopted", at=AT)
        taken = {f"retraining/films/{film_name(number)}.png": "fit" for number in range(3)}
        second = self.manifest({"archive/a.png": "test", "archive/b.png": "fit"} | taken)
        self.rounds.add(
            second, kind="retrained", at=AT, labels=tuple(film_name(number) for number in range(3)), about=ROUND
        )

    def manifest(self, films: dict[str, str]) -> Manifest:
        columns: dict[str, Any] = {
            "path": list(films),
            "film_id": [hashlib.sha256(path.encode()).hexdigest() for path in films],
            "patient_id": [f"p{number}" for number in range(len(films))],
            "part": list(films.values()),
        }
        return Manifest.from_columns(columns, folder=self.out.parent)

    def erase(self, *numbers: int) -> None:
        with closing(Database(f"sqlite:///{self.data / 'hilum.db'}")) as database:
            Eraser(database, now).erase([film_name(number) for number in numbers], actor="console", by="study")

    def rows(self) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = said("audit", "search", "--act", "retraining.", "--data", self.data)["rows"]
        return rows

    @property
    def copies(self) -> set[str]:
        return {path.stem for path in forgetting.released(self.rounds)}


@pytest.fixture
def there(tmp_path: Path) -> Retraining:
    return Retraining(tmp_path)


def test_copies_go_versions_are_retired_and_the_audit_says_which(there: Retraining) -> None:
    there.erase(1, 3)
    done = said("retrain", "forget", "--out", there.out, "--data", there.data)
    assert (done["films"], done["files"], done["versions"]) == ([film_name(1)], 1, [2])
    assert there.copies == {film_name(0), film_name(2)}
    assert film_name(1) not in (there.rounds.released / "labels.csv").read_text()
    assert film_name(2) in (there.rounds.released / "labels.csv").read_text()
    (row,) = there.rows()
    assert (row["act"], row["subject"]) == ("retraining.erased", film_name(1))
    assert row["detail"]["versions"] == [there.rounds.versions()[1].sha256]
    assert said("audit", "verify", "--data", there.data)["whole"]
    version = there.rounds.versions()[1]  # the chain is whole as before
    assert len(there.rounds.films(version)) == 5
    assert [path.name for path in there.rounds.usable(version).film_paths()] == [
        "a.png",
        "b.png",
        f"{film_name(0)}.png",
        f"{film_name(2)}.png",
    ]
    told = CliRunner().invoke(app, ["retrain", "status", "--out", str(there.out)]).stdout
    assert "RETIRED, 1 of its films were erased" in told


def test_a_round_of_a_retired_version_is_not_gone_on_with(there: Retraining) -> None:
    folder = there.rounds.open_round()
    assert folder is not None
    _not_retired(folder)
    there.erase(0)
    forget_erased(there.out, there.data)
    with pytest.raises(UsageError, match="were erased since, so no candidate is made of it. Give the round up"):
        _not_retired(folder)


def test_a_second_call_finds_nothing_and_a_later_erasure_is_added(there: Retraining) -> None:
    there.erase(1)
    forget_erased(there.out, there.data)
    assert forget_erased(there.out, there.data).films == ()
    assert len(there.rows()) == 1
    there.erase(2)
    assert forget_erased(there.out, there.data).films == (film_name(2),)
    assert there.rounds.retired(2) == (film_name(1), film_name(2))
    assert there.copies == {film_name(0)}


def test_what_a_kill_left_is_done_by_the_next_call(there: Retraining, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    there.erase(1)
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(forgetting, "_leave_out", killed)
        forget_erased(there.out, there.data)
    assert film_name(1) in there.copies
    done = forget_erased(there.out, there.data)
    assert (done.files, there.rounds.retired(2)) == (1, (film_name(1),))
    assert film_name(1) not in there.copies
    assert {row["subject"] for row in there.rows()} == {film_name(1)}


def test_an_erasure_reaches_the_copies_in_the_same_call(there: Retraining) -> None:
    with closing(Database(f"sqlite:///{there.data / 'hilum.db'}")) as database, database.write() as session:
        session.get_one(FilmRow, film_name(0)).study_instance_uid = "1.2.3"
    words = ("privacy", "erase", "--study", "1.2.3", "--data", there.data)
    done = said(*words, "--retraining", there.out)
    assert (done["films"], done["retraining"]["films"]) == (1, [film_name(0)])
    assert film_name(0) not in there.copies
    elsewhere = CliRunner().invoke(app, [*map(str, words), "--retraining", str(there.out / "none")])
    assert f"there is no folder {there.out / 'none'}" in elsewhere.stdout.replace("\n", "")


def test_without_records_or_with_a_damaged_file_nothing_is_forgotten(there: Retraining) -> None:
    with pytest.raises(UsageError, match="no records in .* that would say what was erased"):
        forget_erased(there.out, there.data / "none")
    there.erase(1)
    forget_erased(there.out, there.data)
    there.rounds.folder(2).retired.write_text("[]")
    with pytest.raises(DataError, match="holds a list, not an object"):
        forget_erased(there.out, there.data)
    shutil.rmtree(there.rounds.folder(2).root)
    assert json.loads(there.rounds.folder(1).version.read_text())["kind"] == "adopted"
