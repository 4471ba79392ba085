"""A site on synthetic films: records, films, labels that were accepted, a plan and keys, and the verb as typed."""

import hashlib
import json
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

from hilum.bundle.reading import read_bundle
from hilum.change.feedback import EMPTY, Label, LabelRules, collect, decide, write_labels
from hilum.cli.verbs import app
from hilum.datasets.manifest import Manifest
from hilum.datasets.splits import SplitConfig, split
from hilum.records.database import Database
from hilum.records.registry import Registered, Registry
from hilum.records.schema import FilmRow
from hilum.runs.run import Run
from hilum.runs.train import TrainConfig, train_config
from hilum.service.film_files import film_path

PLAN = """schema: 1
name: phantoms
version: "1"
intended_use: Synthetic films only.
scope: {{findings: [normal, pneumonia, covid-19], changes: [retrained, recalibrated, thresholds]}}
test_set: {{fingerprint: "{test}", least_patients: 2}}
non_inferiority: {{margin: 0.49, alpha: 0.45, updates: 1, power: 0.51}}
calibration: {{largest_gap: 1.0, largest_ece: 1.0}}
approvals:
  approvers: [{{name: quality manager, key: "{one}"}}, {{name: physicist, key: "{two}"}}]
retraining: {{labels: 3}}
"""


def said(*words: object, code: int = 0) -> dict[str, Any]:
    done = CliRunner().invoke(app, [str(word) for word in words] + ["--json"], catch_exceptions=False)
    assert done.exit_code == code, done.output
    last: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return last


def film_name(number: int) -> str:
    return f"{number:032x}"


def half_locked(cohort: Path, small: TrainConfig, folder: Path) -> Run:
    """A run whose locked test has the five patients of each finding that a comparison of AUROCs asks for."""
    films = split(Manifest.read(cohort / "split.parquet"), SplitConfig(folds=2, test_share=0.5))
    return train_config(films, small, folder / "runs" / "half", cache=cohort / "runs" / ".cache")


class Site:
    """A site whose service has films of the second hospital, with labels that readers gave and others accepted."""

    def __init__(self, folder: Path, cohort: Path, run: Run, bundle: Path, films: int) -> None:
        self.folder, self.run, self.bundle = folder, run, bundle
        there = Manifest.read(cohort / "external.parquet")
        labels = there.strings("label")
        rows = [[i for i, label in enumerate(labels) if label == name][: films // 3] for name in run.findings.names]
        self.films = there.select(sorted(row for found in rows for row in found))
        self.data, self.labels, self.out = folder / "data", folder / "labels", folder / "retraining"
        for name in ("one", "two", "proposer"):
            said("keys", "create", folder / f"{name}.key")
        keys = {name: said("change", "key", folder / f"{name}.key.pub")["key"] for name in ("one", "two")}
        test = said("retrain", "status", "--run", run.path, "--out", self.out)["locked_test"]
        (folder / "pccp.yaml").write_text(PLAN.format(test=test, **keys))
        self._receive()
        self.accept(dict(enumerate(self.films.strings("label"))))

    def _receive(self) -> None:
        """What the service's folder holds after films came in."""
        self.data.mkdir()
        database = Database(f"sqlite:///{self.data / 'hilum.db'}")
        registry = Registry(database)
        digest = read_bundle(self.bundle).sha256
        registry.register(Registered(sha256=digest, name="chest", version="1", location=str(self.bundle)), actor="qm")
        registry.begin(digest, actor="qm", reason="the first")
        for number, path in enumerate(self.films.film_paths()):
            self.receive(database, number, path)
        database.close()

    def receive(self, database: Database, number: int, path: Path) -> None:
        sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
        where = film_path(self.data / "films", sha256)
        where.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, where)
        row = FilmRow(id=film_name(number), received_at=datetime.now(UTC), origin="rest", format="dicom")
        row.content_sha256, row.file_sha256, row.size, row.state = sha256, sha256, path.stat().st_size, "answered"
        with database.write() as session:
            session.add(row)

    def accept(self, findings: dict[int, str], readers: tuple[str, str] = ("ann", "bob")) -> None:
        """A version of the label set with these labels, all accepted."""
        rules = LabelRules()
        overrides = [
            Label(film_id=film_name(number), finding=finding, source=readers[number % 2], probability=0.3)
            for number, finding in findings.items()
        ]
        shutil.rmtree(self.labels, ignore_errors=True)
        if not findings:
            return
        found = collect(EMPTY, overrides, rules)
        write_labels(self.labels, found)
        for number in findings:
            found = decide(found, film_name(number), accept=True, by="eve", rules=rules)
            write_labels(self.labels, found)

    def propose(self, *words: object, code: int = 0) -> dict[str, Any]:
        return said(*self.command(*words), code=code)

    def command(self, *words: object) -> list[str]:
        """``hilum retrain propose`` without its first word."""
        signed = ("--key", self.folder / "proposer.key", "--name", "data scientist", "--device", "cpu")
        where = ("--labels", self.labels, "--data", self.data, "--out", self.out, "--resamples", 100, "--quiet")
        return [str(word) for word in ("retrain", "propose", self.folder / "pccp.yaml", *signed, *where, *words)]

    def by_hand(self, *words: object, code: int = 0) -> dict[str, Any]:
        return self.propose("--run", self.run.path, "--reason", "The cohort grew.", *words, code=code)
