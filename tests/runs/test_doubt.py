"""Doubt of films that members did not fit, and a bundle that applies the very policy that the report describes."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.bundle.small import small_info

from hilum.bundle.distribution import OodReference
from hilum.bundle.schema import AbstentionPolicy as ShippedPolicy
from hilum.datasets.manifest import Manifest
from hilum.evaluation.conformal import calibrate_sets
from hilum.evaluation.selective import (
    FALLBACK,
    OOD_DISTANCE,
    SET_SIZE,
    AbstentionPolicy,
    AbstentionRules,
    doubts,
    with_set_sizes,
)
from hilum.evaluation.uncertainty import spread_of
from hilum.inference.abstention import reasons_to_abstain
from hilum.labels import CHEST
from hilum.predictions import Predictions
from hilum.randomness import stream
from hilum.runs.answers import answer_films
from hilum.runs.doubt import Validation, doubts_of, policy_of, shipped_policy, validation_of
from hilum.runs.run import Run
from hilum.runs.tiles import load_tiles


@pytest.fixture(scope="module")
def asked(run: Run, tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, Validation]:
    copy = Run.open(shutil.copytree(run.path, tmp_path_factory.mktemp("runs") / "copy"))
    for name in ("validation.parquet", "validation.json"):
        (copy.path / name).unlink(missing_ok=True)
    return copy, validation_of(copy, cache=run.path.parent / ".cache")


def test_each_film_is_doubted_by_the_member_that_did_not_fit_it(asked: tuple[Run, Validation], cohort: Path) -> None:
    run, made = asked
    films = run.films.select(run.films.rows(part="fit"))
    network = run.explained()
    tiles = load_tiles(films, run.recipe.preprocessing, cohort / "runs" / ".cache", workers=0)
    with torch.inference_mode():
        members = network.apart(torch.from_numpy(tiles)[:, None])
    fold = films.column("fold")
    assert made.films.film_ids == run.out_of_fold().film_ids
    told = made.films.uncertainty
    for number in (0, 1):
        mine, own = np.flatnonzero(fold == number), members[number]
        samples = run.calibration.calibrator.probs(own.samples[mine].double().flatten(0, 1).numpy())
        samples = samples.reshape(*own.samples[mine].shape)
        spread = spread_of(np.moveaxis(samples, 1, 0))
        likeliest = made.films.probs[mine].argmax(axis=1)
        np.testing.assert_allclose(told["mc_std"][mine], spread.std[np.arange(len(mine)), likeliest], atol=1e-5)
        np.testing.assert_allclose(told["mutual_information"][mine], spread.mutual_information, atol=1e-5)
        features = own.features.double().numpy()
        reference = OodReference.of(features[fold != number])
        np.testing.assert_allclose(told["ood_distance"][mine], reference.distance(features[mine]), rtol=1e-4)
    whole = OodReference.of(np.mean([own.features.double().numpy() for own in members], axis=0))
    np.testing.assert_allclose(made.usual.mean, whole.mean, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(made.usual.scale, whole.scale, rtol=1e-3, atol=1e-6)
    assert made.usual.threshold == pytest.approx(np.quantile(told["ood_distance"], AbstentionRules().usual))


def test_members_are_asked_once_and_again_when_their_weights_change(
    asked: tuple[Run, Validation], cohort: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, made = asked
    monkeypatch.setattr("hilum.runs.doubt._ask", None)
    again = validation_of(run)
    assert again.usual == made.usual
    assert np.array_equal(again.films.uncertainty["mc_std"], made.films.uncertainty["mc_std"])
    about = run.folder.validation.with_suffix(".json")
    about.write_text(about.read_text().replace(run.fingerprint, "0" * 64))
    with pytest.raises(TypeError):
        validation_of(run, cache=cohort / "runs" / ".cache")


def test_answers_carry_the_same_kinds_of_doubt(asked: tuple[Run, Validation], cohort: Path) -> None:
    run, made = asked
    films = Manifest.read(cohort / "external.parquet").select([0, 1])
    answers = answer_films(
        run.explained(), load_tiles(films, run.recipe.preprocessing, cohort / "runs" / ".cache", workers=0)
    )
    told = doubts_of(answers, made.usual)
    assert set(told) == set(made.films.uncertainty)
    assert told["mc_std"][1] == answers["mc_std"][1, answers["probabilities"][1].argmax()]
    np.testing.assert_allclose(told["ood_distance"], made.usual.distance(answers["features"].astype(float)))
    assert "ood_distance" not in doubts_of(answers, None)


KINDS = ("1 − probability of the answer", "entropy", "mutual_information", "mc_std", OOD_DISTANCE, SET_SIZE)


@pytest.mark.parametrize("kind", KINDS)
def test_a_bundle_leaves_the_films_to_a_person_that_the_policy_does(kind: str) -> None:
    """Over 200 synthetic films, by the shipped policy exactly those that the chosen one leaves."""
    rng = stream(0, "shipped", KINDS.index(kind))
    logits, classes = rng.normal(size=(200, 3)) * 2, rng.integers(0, 3, 200)
    probs = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    films = Predictions(
        findings=CHEST,
        film_ids=tuple(map(str, range(200))),
        patient_ids=tuple(map(str, range(200))),
        logits=logits,
        probs=probs,
        targets=np.eye(3)[classes],
        uncertainty={name: rng.random(200) for name in ("mutual_information", "mc_std", OOD_DISTANCE)},
    )
    sets = calibrate_sets(films)
    films = with_set_sizes(films, sets.sets(probs))
    kinds = doubts(films)
    policy = AbstentionPolicy(
        doubt=kind,
        limit=2.0 if kind == SET_SIZE else float(np.quantile(kinds[kind], 0.7) + 1e-9),
        rules=AbstentionRules(),
        aurc={},
        coverage=0.7,
        risk=0.1,
        most_distance=0.9,
        set_limits=sets.least_probabilities,
    )
    ood = OodReference(mean=(0.0,), scale=(1.0,), threshold=policy.most_distance)
    info = small_info(findings=CHEST.names, thresholds={}, abstention=shipped_policy(policy), ood=ood)
    answered = [
        not reasons_to_abstain(
            info,
            probs=probs[i],
            member_std=np.zeros(3),
            mc_std=np.full(3, films.uncertainty["mc_std"][i]),
            mutual_information=float(films.uncertainty["mutual_information"][i]),
            ood_distance=float(films.uncertainty[OOD_DISTANCE][i]),
        )
        for i in range(200)
    ]
    assert answered == policy.answers(kinds).tolist()
    assert 20 < sum(answered) < 180


def test_without_a_policy_a_bundle_falls_back_to_a_probability(asked: tuple[Run, Validation]) -> None:
    _, made = asked
    policy = policy_of(made)  # far fewer than 50 patients
    assert policy.reason
    assert shipped_policy(policy) == ShippedPolicy(least_probability=FALLBACK)
    assert shipped_policy(replace(policy, reason="", limit=0.3)) == ShippedPolicy(least_probability=0.7)
