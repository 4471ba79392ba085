"""``hilum retrain`` on synthetic films: from accepted labels to a signed proposal, and what is refused on the way."""

import json
import os
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from tests.bundle.small import small_bundle
from tests.runs.site import Site, film_name, half_locked, said
from typer.testing import CliRunner

from hilum.cli.verbs import app
from hilum.errors import BundleError, DataError, HilumError, RunError, UsageError
from hilum.records.database import Database
from hilum.records.schema import AlarmRow
from hilum.runs.rounds import Rounds
from hilum.runs.run import Run
from hilum.runs.train import TrainConfig


@pytest.fixture(scope="module")
def run(cohort: Path, small: TrainConfig) -> Run:
    """The current model's, trained once for this module, beside the cohort's cache of decoded films."""
    return half_locked(cohort, small, cohort)


@pytest.fixture(scope="module")
def bundle(run: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Stands for the run's bundle: it names the run's weights, and its graph is the smallest there is."""
    return small_bundle(tmp_path_factory.mktemp("bundle") / "first.hilum", fingerprints={"weights": run.fingerprint})


@pytest.fixture
def site(tmp_path: Path, cohort: Path, run: Run, bundle: Path) -> Site:
    return Site(tmp_path, cohort, run, bundle, 6)


@pytest.fixture(scope="module")
def ended(
    tmp_path_factory: pytest.TempPathFactory, cohort: Path, run: Run, bundle: Path
) -> tuple[Site, dict[str, Any]]:
    """A site whose first round has ended in a proposal; the export is left to the tests of the system."""
    made = Site(tmp_path_factory.mktemp("site"), cohort, run, bundle, 6)

    def quick(candidate: Run, out: Path, *, name: str, **_: object) -> Path:
        return small_bundle(out, name=name, version="2", fingerprints={"weights": candidate.fingerprint})

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("hilum.runs.retrain.package", quick)
        return made, made.by_hand("--if-labels", 0)


def test_labels_become_a_signed_proposal_that_the_gate_lets_through(ended: tuple[Site, dict[str, Any]]) -> None:
    site, told = ended
    assert told["proposed"]
    assert told["trigger"] == "6 labels were accepted since the last version; 3 are enough."
    proposal, evidence, plan = told["path"], told["evidence"], site.folder / "pccp.yaml"
    document = json.loads(Path(proposal).read_text())["document"]
    assert (document["trigger"], document["change"], document["update"]) == (told["trigger"], "retrained", 1)
    for key, name in (("one", "quality manager"), ("two", "physicist")):
        done = said("change", "approve", proposal, plan, evidence, "--key", site.folder / f"{key}.key", "--name", name)
    assert done["passed"]
    shadow = said("change", "shadow", proposal, plan, evidence, "--bundle", told["bundle"], "--data", site.data)
    assert (shadow["stage"], shadow["candidate"]) == ("shadow", told["candidate"])


def test_the_version_keeps_the_locked_test_and_the_recipe(ended: tuple[Site, dict[str, Any]]) -> None:
    site, told = ended
    rounds = Rounds(site.out)
    first, second = rounds.versions()
    assert (first.kind, second.kind, len(second.labels)) == ("adopted", "retrained", 6)
    assert set(second.trained) - set(first.trained) == set(site.films.strings("patient_id"))
    candidate = Run.open(rounds.folder(2).run)
    assert candidate.config == site.run.config
    assert candidate.fingerprint == told["weights"] != site.run.fingerprint
    tests = [one.films.select(one.films.rows(part="test")).fingerprint for one in (site.run, candidate)]
    assert tests[0] == tests[1]
    shown = said("retrain", "status", "--out", site.out)
    assert shown["locked_test"] == tests[0]
    assert [(one["state"], one["labels"]) for one in shown["versions"]] == [("adopted", 0), ("proposed", 6)]


@pytest.mark.parametrize("lost", [("proposal.json",), ("proposal.json", "evidence", "answers")])
def test_the_same_command_ends_with_the_same_proposal(
    ended: tuple[Site, dict[str, Any]], lost: tuple[str, ...], tmp_path: Path
) -> None:
    """As after a kill: later steps are lost, and the round is under way."""
    site, told = ended
    folder = Rounds(site.out).folder(2).root
    kept = shutil.copytree(folder, tmp_path / "kept")
    for name in lost:
        shutil.rmtree(folder / name) if (folder / name).is_dir() else (folder / name).unlink()
    again = site.by_hand()
    assert {name: again[name] for name in ("candidate", "weights", "evidence_sha256", "verdict_sha256")} == {
        name: told[name] for name in ("candidate", "weights", "evidence_sha256", "verdict_sha256")
    }
    document = [json.loads((where / "proposal.json").read_text())["document"] for where in (folder, kept)]
    assert document[0] == document[1]
    shutil.copyfile(kept / "proposal.json", folder / "proposal.json")  # with its approvals


def test_without_new_labels_the_proposal_that_is_there_is_told_again(ended: tuple[Site, dict[str, Any]]) -> None:
    site, told = ended
    assert site.by_hand()["candidate"] == told["candidate"]
    waiting = site.propose("--run", site.run.path, "--if-labels", 1, "--if-due", "--every-days", 30, code=3)
    assert not waiting["due"]
    assert "the schedule of 30 days comes on" in waiting["reason"]
    assert waiting["reason"].endswith("0 of 1 new labels are there.")
    assert len(Rounds(site.out).versions()) == 2


def test_a_forged_proposal_and_a_changed_version_are_refused(
    ended: tuple[Site, dict[str, Any]], tmp_path: Path
) -> None:
    site, _ = ended
    folder = Rounds(site.out).folder(2)
    for path, words in (
        (folder.proposal, "doesn't fit the document: one of them was forged"),
        (folder.about, "unknown key 'triger'. Did you mean 'trigger'"),
        (folder.version, "doesn't follow the version before it"),
        (folder.films, "is not the manifest of its version"),
        (folder.answers("candidate"), "Parquet"),
    ):
        kept = path.read_bytes()
        changed = kept.replace(b'"trigger"', b'"triger"').replace(b'"number":2', b'"number":3')
        path.write_bytes(changed[:-1] + b" ")
        with pytest.raises(DataError, match=words):
            site.by_hand()
        path.write_bytes(kept)


@pytest.mark.system
@pytest.mark.parametrize("kind", ["recalibrated", "thresholds"])
def test_a_local_calibration_changes_no_weight(ended: tuple[Site, dict[str, Any]], kind: str, tmp_path: Path) -> None:
    site, _ = ended
    done = site.by_hand("--kind", kind, "--out", tmp_path / "retraining")
    assert done["proposed"]
    candidate = Run.open(tmp_path / "retraining" / "versions" / "00002" / "run")
    assert candidate.fingerprint == site.run.fingerprint
    assert (candidate.calibration == site.run.calibration) is (kind == "thresholds")
    assert candidate.thresholds != site.run.thresholds
    assert candidate.result["recalibrated"]["patients"] == len(set(site.films.strings("patient_id")))
    document = json.loads(Path(done["path"]).read_text())["document"]
    assert (document["change"], document["candidate"] != document["current"]) == (kind, True)


def test_alarms_set_off_one_round_each(site: Site) -> None:
    database = Database(f"sqlite:///{site.data / 'hilum.db'}")
    row = AlarmRow(id="a1", state="open", owner="qm", opened_at=datetime.now(UTC), culprit="device")
    row.detail = json.dumps({"streams": ["device"], "sentence": "Device.", "seen_until": 0.0})
    with database.write() as session:
        session.add(row)
    database.close()
    quiet = site.propose("--run", site.run.path, "--if-alarm", "--alarm", "exposure", code=3)
    assert "no alarm of the kinds exposure is open" in quiet["reason"]
    with pytest.raises(UsageError, match="no alarm of the kind 'devic'. Did you mean 'device'"):
        site.propose("--run", site.run.path, "--if-alarm", "--alarm", "devic")


def refused(site: Site, kind: type[HilumError], words: str, *more: object) -> None:
    with pytest.raises(kind, match=words) as told:
        site.by_hand(*more)
    assert "\n" not in str(told.value)
    assert len(Rounds(site.out).versions()) <= 1


def test_labels_that_can_not_be_drawn_are_refused_by_name(site: Site) -> None:
    site.accept({})
    refused(site, DataError, "No label was accepted, so there is nothing new to learn from")
    site.accept({0: "normal", 99: "normal"})
    refused(
        site, DataError, f"1 of 2 labelled films can't be drawn: film {film_name(99)} can't be had .The records don"
    )
    site.accept({0: "flu"})
    refused(site, DataError, f"film {film_name(0)} is labelled 'flu', which is none of normal, pneumonia, covid-19")
    site.accept({0: site.films.strings("label")[0]})
    refused(site, DataError, "none shows .*a calibration needs films of every finding", "--kind", "recalibrated")
    path = next(iter(sorted(site.labels.glob("labels-*.json"), reverse=True)))
    values = json.loads(path.read_text())
    path.write_text(json.dumps(values | {"labels": values["labels"] * 2}))
    refused(site, DataError, "The audit knows version 2 of this label set as .*: the set was changed")
    site.accept({1: site.films.strings("label")[1]})
    values = json.loads(path.read_text())
    path.write_text(json.dumps(values | {"labels": values["labels"] * 2}))
    refused(site, DataError, f"two labels of film {film_name(1)}")


def test_a_patient_of_the_locked_test_is_refused_and_can_be_left_out(site: Site) -> None:
    locked = site.run.films.select(site.run.films.rows(part="test"))
    database = Database(f"sqlite:///{site.data / 'hilum.db'}")
    site.receive(database, 50, locked.film_paths()[0])
    database.close()
    site.accept({50: locked.strings("label")[0]})
    refused(site, DataError, f"film {film_name(50)} is of a patient of the locked test, who is never drawn")
    refused(site, DataError, "No labelled film is left to add", "--leave-out")
    refused(site, DataError, f"film {film_name(50)} is of a patient of the locked", "--kind", "recalibrated")


def test_models_and_runs_that_do_not_match_are_refused(
    site: Site, cohort: Path, run: Run, bundle: Path, tmp_path: Path
) -> None:
    other = small_bundle(tmp_path / "other.hilum")
    refused(
        site, UsageError, "the records say that .* is in production. Give that one with --current", "--current", other
    )
    moved = Run.open(shutil.copytree(run.path, tmp_path / "copy"))
    config = json.loads(moved.folder.config.read_text())
    config["config"]["seed"] = 7
    moved.folder.config.write_text(json.dumps(config))
    refused(site, RunError, "config.json has the fingerprint .* it was changed", "--run", moved.path)
    moved.folder.config.write_text(run.folder.config.read_text())
    run.films.select(range(5)).write(moved.folder.manifest)
    refused(site, RunError, "split.parquet has the fingerprint .* it was changed", "--run", moved.path)
    shutil.copyfile(run.folder.manifest, moved.folder.manifest)
    shutil.copyfile(run.folder.weights(1), moved.folder.weights(0))
    refused(site, RunError, "has the weights .*, but the current model's bundle was made of", "--run", moved.path)
    broken = tmp_path / "broken.hilum"
    broken.write_bytes(bundle.read_bytes()[:-100])
    refused(site, BundleError, "broken.hilum", "--current", broken)


def test_what_the_verb_needs_is_asked_for_before_anything_is_done(site: Site) -> None:
    run = ("--run", site.run.path)
    for words, told in (
        ((), "Without a trigger a person has decided: say why"),
        (("--if-due",), "--if-due needs a schedule: give --every-days N"),
        (("--if-alarm",), "--if-alarm needs kinds of alarm"),
        (("--if-labels", 0, "--every-days", -1, "--if-due"), "every_days is -1.0, but must be above 0"),
    ):
        with pytest.raises(UsageError, match=told):
            site.propose(*run, *words)
    with pytest.raises(UsageError, match="No round made the model .*--run RUN"):
        site.propose("--reason", "x")
    with pytest.raises(UsageError, match="No round is under way"):
        said("retrain", "abandon", "--reason", "x", "--by", "qm", "--out", site.out)
    assert not Rounds(site.out).versions()


def test_a_round_that_was_begun_otherwise_is_finished_or_given_up(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed before training: another plan is refused until the round is given up."""

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    run = ("--run", site.run.path)
    monkeypatch.setattr("hilum.runs.retrain.train_config", killed)
    assert CliRunner().invoke(app, site.command(*run, "--reason", "x")).exit_code != 0
    plan = site.folder / "pccp.yaml"
    plan.write_text(plan.read_text().replace('version: "1"', 'version: "2"'))
    with pytest.raises(UsageError, match="was begun with another plan_sha256. Finish it with the command"):
        site.by_hand()
    said("retrain", "abandon", "--reason", "the plan changed", "--by", "qm", "--out", site.out)
    assert said("retrain", "status", "--out", site.out)["versions"][1]["state"] == "refused"
    with pytest.raises(DataError, match="No label was accepted since version 2"):
        site.by_hand()


def test_two_processes_do_not_work_on_one_folder(site: Site) -> None:
    held = Rounds(site.out).lock()
    try:
        with pytest.raises(RunError, match="Another process works on"):
            site.by_hand()
    finally:
        os.close(held)
