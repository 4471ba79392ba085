"""From a split to a bundle on synthetic films: what a run keeps, refuses, and answers."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from typer import Typer
from typer.testing import CliRunner

from hilum.cli.train import evaluate as evaluate_verb
from hilum.datasets.manifest import Manifest
from hilum.errors import BundleError, DataError, HilumError, RunError, UsageError
from hilum.evaluation.thresholds import OperatingRules
from hilum.files import write_json
from hilum.inference.assess import open_bundle
from hilum.inference.selftest import verify_bundle
from hilum.runs.answers import answer_films
from hilum.runs.doubt import policy_of, shipped_policy, validation_of
from hilum.runs.evaluate import evaluate
from hilum.runs.layout import RunFolder
from hilum.runs.package import check_parity, package, reference_tiles
from hilum.runs.recipes import changed, recipe
from hilum.runs.report import report_run
from hilum.runs.run import Run
from hilum.runs.summary import training_summary
from hilum.runs.tiles import load_tiles
from hilum.runs.train import TrainConfig, findings_of, folds_of, train_config
from hilum.training.row_store import RowsOf
from hilum.training.stages import Stage


def test_each_fit_film_is_predicted_by_the_member_that_did_not_fit_it(run: Run) -> None:
    films = run.films.select(run.films.rows(part="fit"))
    tiles = load_tiles(films, run.recipe.preprocessing, run.path.parent / ".cache")
    out_of_fold = run.out_of_fold()
    assert set(out_of_fold.film_ids) == set(films.strings("film_id"))
    place = {film: i for i, film in enumerate(out_of_fold.film_ids)}
    for fold in (0, 1):
        rows = np.flatnonzero(films.column("fold") == fold)
        with torch.inference_mode():
            logits = run.classifier(fold)(torch.from_numpy(tiles[rows])[:, None]).numpy()
        kept = out_of_fold.logits[[place[films.strings("film_id")[row]] for row in rows]]
        # The cache stores fp16: the same logits within its rounding.
        np.testing.assert_allclose(kept, logits, atol=2e-2)


def test_folds_share_their_frozen_layers_and_differ_in_the_last_block(run: Run) -> None:
    first, second = run.classifier(0), run.classifier(1)
    states = first.encoder.state_dict(), second.encoder.state_dict()
    same = {name for name in states[0] if torch.equal(states[0][name], states[1][name])}
    assert {name for name in states[0] if not name.startswith("block5")} <= same
    assert "block5.branch.0.weight" not in same


def test_the_ensemble_averages_the_members_calibrated_probabilities(run: Run) -> None:
    tiles = reference_tiles(run.recipe.preprocessing)
    answers = answer_films(run.explained(), tiles)
    with torch.inference_mode():
        logits = [run.classifier(i)(torch.from_numpy(tiles)[:, None]).double().numpy() for i in (0, 1)]
    mean = run.calibration.probs(np.stack(logits))
    np.testing.assert_allclose(answers["probabilities"], mean, atol=1e-5)


def test_each_member_leaves_its_curves(run: Run) -> None:
    left = sorted(path.name for path in (run.path / "curves").iterdir())
    assert left == ["fold0.png", "fold0.svg", "fold1.png", "fold1.svg"]


def test_the_same_command_finds_the_run_finished(run: Run, cohort: Path, small: TrainConfig) -> None:
    before = run.folder.result.stat().st_mtime_ns
    again = train_config(Manifest.read(cohort / "split.parquet"), small, run.path)
    assert again.fingerprint == run.fingerprint
    assert run.folder.result.stat().st_mtime_ns == before


def test_another_config_is_refused_in_the_same_folder(run: Run, cohort: Path, small: TrainConfig) -> None:
    films = Manifest.read(cohort / "split.parquet")
    with pytest.raises(RunError, match=r"holds a run of another config \(other seed\). Choose another --out"):
        train_config(films, replace(small, seed=1), run.path)


def test_same_seed_same_weights_with_films_in_memory_and_from_disk(
    run: Run, cohort: Path, small: TrainConfig, tmp_path: Path
) -> None:
    films = Manifest.read(cohort / "split.parquet")
    again = train_config(films, small, tmp_path / "runs" / "again", data_path="streaming")
    assert again.fingerprint == run.fingerprint
    assert [one.result["data_path"]["kind"] for one in (run, again)] == ["resident", "streaming"]
    assert again.result["data_path"]["asked_for"]
    assert again.result["device"] == "cpu"
    assert again.result["frozen_outputs"].startswith("fp16")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"backbone": "hilum_smal"}, "Did you mean 'hilum_small'"),
        ({"weights": "no.safetensors"}, "does not exist"),
        (
            {"operating": OperatingRules(floors={"covid": 0.9})},
            "A floor is given for covid, but the findings are normal, pneumonia, covid-19. Name these.",
        ),
        (
            {"recipe": changed(recipe("phantom"), precision="fp16")},
            "fp16 is for a GPU, but this training is on the CPU",
        ),
        (
            {"recipe": replace(recipe("phantom"), stages=(Stage(name="one", trainable_from="block55"),))},
            "can't train from 'block55': no such layer. Did you mean 'block5'",
        ),
    ],
)
def test_a_wrong_start_takes_no_folder(
    cohort: Path, small: TrainConfig, tmp_path: Path, change: dict[str, object], message: str
) -> None:
    with pytest.raises(HilumError, match=message):
        train_config(Manifest.read(cohort / "split.parquet"), replace(small, **change), tmp_path / "r")
    assert not (tmp_path / "r").exists()


@pytest.mark.parametrize(
    ("wish", "message"),
    [({"data_path": "residents"}, "Did you mean 'resident'"), ({"device": "cuda"}, "--device is cuda, but torch sees")],
)
def test_a_wrong_data_path_or_device_takes_no_folder(
    cohort: Path,
    small: TrainConfig,
    tmp_path: Path,
    wish: dict[str, str],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(UsageError, match=message):
        train_config(Manifest.read(cohort / "split.parquet"), small, tmp_path / "r", **wish)
    assert not (tmp_path / "r").exists()


def test_an_unsplit_manifest_names_the_mend(cohort: Path, small: TrainConfig, tmp_path: Path) -> None:
    films = Manifest.read(cohort / "external.parquet")
    with pytest.raises(DataError, match="has no fit part. Split it first: hilum data split"):
        train_config(films, small, tmp_path / "r")
    assert not (tmp_path / "r").exists()


@pytest.mark.parametrize(
    ("folds", "kind", "message"),
    [(3, DataError, "The split has 2 folds, but --folds is 3. Give --folds 2 or 1"), (0, UsageError, "--folds is 0")],
)
def test_folds_must_be_those_of_the_split(
    cohort: Path, small: TrainConfig, tmp_path: Path, folds: int, kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind, match=message):
        train_config(Manifest.read(cohort / "split.parquet"), replace(small, folds=folds), tmp_path / "r")


def test_without_a_number_of_folds_there_are_as_many_as_the_split_has(cohort: Path) -> None:
    films = Manifest.read(cohort / "split.parquet")
    assert folds_of(films) == 2
    assert folds_of(Manifest.read(cohort / "external.parquet")) == 1


def test_one_label_is_not_enough(cohort: Path) -> None:
    films = Manifest.read(cohort / "split.parquet")
    normal = films.select(np.flatnonzero(films.column("label") == "normal"))
    with pytest.raises(DataError, match=r"have 1 distinct labels \(normal\), but training needs two or more"):
        findings_of(normal)


def test_films_that_changed_since_the_import_are_named(cohort: Path, tmp_path: Path) -> None:
    films = Manifest.read(cohort / "split.parquet")
    moved = tmp_path / "films"
    shutil.copytree(cohort / "films", moved / "films")
    changed = replace(films, folder=moved).select([0, 1])
    path = changed.film_paths()[1]
    path.write_bytes(path.read_bytes() + b"\0" * 2)
    with pytest.raises(DataError, match="changed since the import"):
        load_tiles(changed, recipe("starter").preprocessing, tmp_path / "cache", workers=1)
    path.unlink()
    with pytest.raises(DataError, match=r"(?s)can't be opened: No such file.* Restore them, or import again"):
        load_tiles(changed, recipe("starter").preprocessing, tmp_path / "cache", workers=1)


def test_evaluation_logs_each_opening_of_the_locked_share(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second time with films that count as too many for the memory: the same answers, and a report of them."""
    copy = Run.open(shutil.copytree(run.path, tmp_path / "runs" / "copy"))
    copy.folder.openings.unlink(missing_ok=True)
    cache = run.path.parent / ".cache"
    resident = evaluate(copy, cache=cache, resamples=100)
    assert resident.openings == 1
    assert resident.opening == f"Locked test films: look 1 at model version {run.fingerprint[:12]}, its first."
    monkeypatch.setattr("hilum.training.data_path.SHARE", 0)
    done = evaluate(copy, cache=cache, resamples=100)
    assert (type(resident.tiles), type(done.tiles)) == (np.ndarray, RowsOf)
    assert np.array_equal(done.predictions.logits, resident.predictions.logits)
    assert done.openings == 2
    assert [json.loads(line)["model"] for line in copy.folder.openings.read_text().splitlines()] == [
        run.fingerprint
    ] * 2
    page, verdict = report_run(copy, done, notices=("All films are synthetic phantoms.",))
    text = page.read_text()
    assert "looked at 2 times" in text
    assert "All films are synthetic phantoms." in text
    assert verdict.colour in ("amber", "red")


def test_the_command_says_which_look_it_was_and_takes_the_interval_it_is_told(run: Run, tmp_path: Path) -> None:
    copy = Run.open(shutil.copytree(run.path, tmp_path / "runs" / "copy"))
    looks = [{"time": "2026-01-01T00:00:00Z", "model": model} for model in ("another version", run.fingerprint)]
    copy.folder.openings.write_text("".join(json.dumps(look) + "\n" for look in looks))
    verb = Typer()
    verb.command()(evaluate_verb)
    assert CliRunner().invoke(verb, [str(copy.path), "--interval", "bayes"]).exit_code == 2
    asked = [str(copy.path), "--no-audits", "--resamples", "120", "--interval", "bca", "--quiet"]
    said = CliRunner().invoke(verb, asked, catch_exceptions=False).stdout
    assert f"Locked test films: look 2 at model version {run.fingerprint[:12]}. Choices made since" in said
    internal = json.loads((copy.path / "report.json").read_text())["internal"]
    assert internal["settings"]["resampling"] == {"seed": 0, "resamples": 120, "level": 0.95, "method": "bca"}
    assert "corrected for bias and skewness (BCa), 120 resamples" in (copy.path / "report.html").read_text()


def test_external_films_are_checked_and_their_masks_measured(run: Run, cohort: Path) -> None:
    done = evaluate(run, on=cohort / "external.parquet", external=True, resamples=100)
    assert (done.openings, done.opening) == (0, "")
    assert done.scorecard.role == "external"
    assert done.scorecard.not_external == ()
    assert {row.name for row in done.scorecard.localisation} == {"all", "pneumonia", "covid-19"}
    assert (done.folder / "predictions.parquet").exists()


def test_external_needs_other_films(run: Run) -> None:
    with pytest.raises(UsageError, match="name their manifest with --on MANIFEST"):
        evaluate(run, external=True)


def test_a_bundle_of_the_run_answers_as_the_run_does(run: Run, tmp_path: Path, cohort: Path) -> None:
    path = package(run, tmp_path / "small.hilum", cache=run.path.parent / ".cache")
    assert verify_bundle(path).passed
    films = Manifest.read(cohort / "external.parquet").select([0, 1, 2])
    tiles = load_tiles(films, run.recipe.preprocessing, run.path.parent / ".cache")
    expected = answer_films(run.explained(), tiles)["probabilities"]
    validation = validation_of(run, cache=run.path.parent / ".cache")
    with open_bundle(path) as bundle:
        assert bundle.info.abstention == shipped_policy(policy_of(validation))
        assert bundle.info.ood == validation.usual
        answers = [bundle.assess_prepared([bundle.prepare(film)])[0] for film in films.film_paths()]
    got = np.array([[answer.probs[name] for name in run.findings.names] for answer in answers])
    np.testing.assert_allclose(got, expected, atol=1e-4)


def test_a_graph_that_answers_otherwise_is_not_written(run: Run) -> None:
    tiles = reference_tiles(run.recipe.preprocessing)
    answers = answer_films(run.explained(), tiles)
    check_parity(answers["probabilities"], answers)
    with pytest.raises(BundleError, match="answers otherwise than the trained network"):
        check_parity(answers["probabilities"] + 0.01, answers)


def test_a_folder_without_a_run_says_so(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"holds no finished run: result.json is missing. Run hilum train"):
        Run.open(tmp_path)


def test_damaged_files_are_named(run: Run, tmp_path: Path) -> None:
    copy = shutil.copytree(run.path, tmp_path / "copy")
    RunFolder(copy).weights(1).write_bytes(b"no weights")
    with pytest.raises(RunError, match=r"classifier.safetensors can't be read .* Train again"):
        Run.open(copy).classifier(1)
    (copy / "result.json").write_text("{")
    with pytest.raises(RunError, match=r"result.json is damaged"):
        Run.open(copy)


def test_an_unknown_recipe_lists_the_nearest() -> None:
    with pytest.raises(UsageError, match=r"There is no recipe 'startr'. Did you mean 'starter'\?"):
        recipe("startr")


def test_claiming_a_folder_is_remembered(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "r")
    assert folder.claim({"a": 1}) is False
    assert folder.claim({"a": 1}) is False
    write_json(folder.result, {})
    assert folder.claim({"a": 1}) is True
    with pytest.raises(RunError, match=r"another config \(other a\)"):
        folder.claim({"a": 2})


def test_one_fold_is_the_quick_form_and_says_that_its_calibration_is_optimistic(
    cohort: Path, small: TrainConfig, tmp_path: Path
) -> None:
    films, cache = Manifest.read(cohort / "split.parquet"), cohort / "runs" / ".cache"
    quick = train_config(films, replace(small, folds=1), tmp_path / "runs" / "quick", cache=cache)
    summary = training_summary(quick)
    assert summary["calibration_note"].startswith("Calibrated on the films that early stopping watched")
    assert summary["validation_kind"] == "on the watched fold"
    done = evaluate(quick, cache=cache, resamples=100)
    assert any("calibration is optimistic" in warning for warning in done.scorecard.warnings)
    with open_bundle(package(quick, tmp_path / "quick.hilum", cache=cache)) as bundle:
        assert bundle.info.drift is not None
        assert bundle.info.drift.films == len(quick.out_of_fold().probs), "the films that it watched"


def test_zscore_takes_mean_and_spread_of_the_fit_part(cohort: Path, small: TrainConfig, tmp_path: Path) -> None:
    films = Manifest.read(cohort / "split.parquet")
    config = replace(small, folds=1, recipe=replace(small.recipe, normalisation="zscore"))
    cache = cohort / "runs" / ".cache"
    trained = train_config(films, config, tmp_path / "runs" / "zscore", cache=cache)
    tiles = load_tiles(films.select(films.rows(part="fit")), config.recipe.preprocessing, cache) / 255
    given = trained.classifier().config
    np.testing.assert_allclose(np.unique([*given.mean, *given.std]), np.unique([tiles.mean(), tiles.std()]), rtol=1e-5)


def test_seeds_make_an_ensemble_of_folds_times_seeds(
    run: Run, cohort: Path, small: TrainConfig, tmp_path: Path
) -> None:
    """The first seed's members are the run's without seeds; the others share the frozen layers and differ above."""
    films = Manifest.read(cohort / "split.parquet")
    twice = train_config(films, replace(small, seeds=2), tmp_path / "runs" / "twice", cache=run.path.parent / ".cache")
    assert twice.config.members == 4
    for number in (0, 1):
        assert twice.folder.weights(number).read_bytes() == run.folder.weights(number).read_bytes()
    first, again = twice.classifier(0), twice.classifier(2)
    assert torch.equal(first.encoder.stem[0].weight, again.encoder.stem[0].weight)
    assert not torch.equal(first.head.fc2.weight, again.head.fc2.weight)
    tiles = reference_tiles(twice.recipe.preprocessing)
    with torch.inference_mode():
        logits = [twice.classifier(i)(torch.from_numpy(tiles)[:, None]).double().numpy() for i in range(4)]
    mean = twice.calibration.probs(np.stack(logits))
    np.testing.assert_allclose(answer_films(twice.explained(), tiles)["probabilities"], mean, atol=1e-5)
    assert not np.allclose(twice.out_of_fold().logits, run.out_of_fold().logits)


@pytest.mark.long
def test_a_bundle_holds_the_members_of_every_seed(run: Run, cohort: Path, small: TrainConfig, tmp_path: Path) -> None:
    films, cache = Manifest.read(cohort / "split.parquet"), run.path.parent / ".cache"
    twice = train_config(films, replace(small, seeds=2), tmp_path / "runs" / "twice", cache=cache)
    with open_bundle(package(twice, tmp_path / "twice.hilum", cache=cache)) as bundle:
        assert bundle.info.members == 4


def test_seeds_start_once_at_least(cohort: Path, small: TrainConfig, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--seeds is 0, but must be 1 or more"):
        train_config(Manifest.read(cohort / "split.parquet"), replace(small, seeds=0), tmp_path / "r")
