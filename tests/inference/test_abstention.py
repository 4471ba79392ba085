"""Abstention: each kind of doubt has its own rule and its own sentence; what is not a number is doubt, too."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from tests.bundle.small import small_info

from hilum.bundle.distribution import OodReference
from hilum.bundle.schema import AbstentionPolicy
from hilum.inference.abstention import reasons_to_abstain

OOD = OodReference(mean=(0.0,), scale=(1.0,), threshold=2.0)
POLICY = AbstentionPolicy(mutual_information=0.1, least_probability=0.5, member_std=0.2)
SETS = AbstentionPolicy(set_size=1, set_limits={"normal": 0.3, "pneumonia": 0.4, "covid-19": 0.1})


def reasons(**changes: Any) -> tuple[str, ...]:
    values: dict[str, Any] = {
        "probs": np.asarray([0.1, 0.7, 0.2]),
        "member_std": np.asarray([0.9, 0.1, 0.9]),
        "mc_std": np.asarray([0.9, 0.05, 0.9]),
        "mutual_information": 0.05,
        "ood_distance": 1.0,
    }
    info = small_info(ood=OOD, abstention=changes.pop("policy", POLICY))
    return reasons_to_abstain(info, **(values | changes))


def test_a_sure_answer_on_a_usual_film_gives_no_reason() -> None:
    assert reasons() == ()


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"ood_distance": 2.5}, "The film is unlike the films that the model was made with (distance 2.50; up to 2.00"),
        ({"ood_distance": float("nan")}, "The film is unlike the films"),
        (
            {"probs": np.asarray([0.3, 0.4, 0.3])},
            "the likeliest, pneumonia, has a probability of 40.0 %, and 50.0 % is needed",
        ),
        ({"mutual_information": 0.2}, "contradicts itself when parts of it are left out (mutual information 0.200"),
        ({"mutual_information": float("nan")}, "contradicts itself"),
        ({"member_std": np.asarray([0, 0.3, 0])}, "members of the ensemble disagree about pneumonia (spread 0.30"),
        (
            {"policy": AbstentionPolicy(mc_std=0.04)},
            "The probability of pneumonia wavers when parts of the model are left out (spread 0.050; up to 0.040",
        ),
        (
            {"policy": AbstentionPolicy(entropy=0.80)},
            "The probability is spread over several findings (entropy 0.80; up to 0.80 is accepted)",
        ),
        ({"policy": AbstentionPolicy(ood_distance=0.9)}, "(distance 1.00; up to 0.90 is accepted), so its answer"),
        ({"policy": AbstentionPolicy(ood_distance=9.0), "ood_distance": 2.5}, "up to 2.00 is usual"),
        (
            {"policy": SETS},
            "Several findings remain possible: the prediction set holds pneumonia, covid-19, and up to 1 is accepted.",
        ),
        (
            {"policy": SETS, "probs": np.asarray([0.25, 0.25, 0.05])},
            "No finding is likely enough to enter the prediction set",
        ),
    ],
)
def test_each_doubt_has_its_sentence(changes: dict[str, Any], sentence: str) -> None:
    (reason,) = reasons(**changes)
    assert sentence in reason


def test_at_the_limit_the_model_answers() -> None:
    on_the_limit = {"ood_distance": 2.0, "mutual_information": 0.1, "probs": np.asarray([0.25, 0.5, 0.25])}
    assert reasons(**on_the_limit) == ()


def test_entropy_and_sets_let_a_clear_answer_pass() -> None:
    """0.1, 0.7 and 0.2 have an entropy of 0.8018; a probability of 0 adds nothing to it."""
    assert reasons(policy=AbstentionPolicy(entropy=0.802)) == ()
    assert reasons(policy=AbstentionPolicy(entropy=0.0), probs=np.asarray([0.0, 1.0, 0.0])) == ()
    assert reasons(policy=SETS, probs=np.asarray([0.1, 0.85, 0.05])) == ()
    assert reasons(policy=replace(SETS, set_size=3), probs=np.asarray([0.25, 0.25, 0.05])) == ()


def test_all_doubts_are_told_at_once() -> None:
    assert len(reasons(ood_distance=9.0, mutual_information=1.0, probs=np.asarray([0.3, 0.4, 0.3]))) == 3


def test_rules_that_are_off_never_fire() -> None:
    nothing = reasons_to_abstain(
        small_info(ood=None),
        probs=np.asarray([0.34, 0.33, 0.33]),
        member_std=np.ones(3),
        mc_std=np.ones(3),
        mutual_information=9.0,
        ood_distance=None,
    )
    assert nothing == ()
