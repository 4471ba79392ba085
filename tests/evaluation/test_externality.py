"""External is a claim: shared films, patients, sources and pretraining data speak against it."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from hilum.errors import DataError
from hilum.evaluation.externality import Development, refuse, why_not_external
from hilum.evaluation.known_data import canonical, films_in_common
from hilum.predictions import Predictions


def test_another_source_with_other_patients_is_external(make: Callable[..., Predictions]) -> None:
    films = make(6, sources=("far", "far"))
    seen = Development(film_ids=frozenset({"x"}), patient_ids=frozenset({"y"}), sources=frozenset({"near"}))
    assert why_not_external(films, seen) == ()


def test_every_reason_is_given_and_no_patient_is_named(make: Callable[..., Predictions]) -> None:
    films = make(6, sources=("near", "near"))
    seen = Development(
        film_ids=frozenset(films.film_ids[:2]),
        patient_ids=frozenset(films.patient_ids[:1]),
        sources=frozenset({"near"}),
        pretrained_on=("NEAR", "PadChest"),
    )
    reasons = why_not_external(films, seen, data_names=["padchest"])
    assert reasons == (
        "2 of 6 films were already used to develop the model.",
        "1 patients also have films that were used to develop the model.",
        "Films of source 'near' were used to develop the model.",
        "The backbone was pretrained on 'near'.",
        "The backbone was pretrained on 'padchest'.",
    )
    assert not any(patient in reason for patient in films.patient_ids for reason in reasons)


def test_a_source_that_is_not_recorded_is_no_other_source(make: Callable[..., Predictions]) -> None:
    films = make(6)
    for groups in ({}, {"source": ("far",) * 5 + ("",)}):
        (reason,) = why_not_external(replace(films, groups=groups), Development())
        assert reason.startswith("The source of some films is not recorded")


def test_sets_are_known_by_every_name_and_by_what_they_hold() -> None:
    assert canonical("ChestX-ray14") == canonical("NIH") == "nih-chestx-ray14"
    assert canonical("Our Hospital ") == "our hospital"
    assert films_in_common("COVIDx", "nih") == {"nih-chestx-ray14"}
    assert films_in_common("covid-19 radiography database", "COVID-Net") >= {"covid-chestxray-dataset"}
    assert films_in_common("padchest", "chexpert") == frozenset()


def test_pretraining_on_a_set_that_took_the_films_in_is_a_reason(make: Callable[..., Predictions]) -> None:
    films = make(6, sources=("cohen", "cohen"))
    (reason,) = why_not_external(films, Development(pretrained_on=("COVIDx",)))
    assert reason == (
        "The backbone was pretrained on 'COVIDx', which has films of covid-chestxray-dataset as 'cohen' has."
    )
    assert why_not_external(films, Development(pretrained_on=("imagenet-1k",))) == ()


def test_weights_that_say_nothing_and_films_that_look_alike_are_reasons(make: Callable[..., Predictions]) -> None:
    films = make(6, sources=("far", "far"))
    (unknown,) = why_not_external(films, Development(pretrained_on=("not recorded",)))
    assert "declare it with --pretrained-on NAME" in unknown
    (alike,) = why_not_external(films, Development(), copies=2)
    assert alike == "2 of 6 films look like copies of films that were used to develop the model."


def test_a_refusal_says_what_where_and_the_mend() -> None:
    refuse((), films="other.parquet", model="runs/chest")
    with pytest.raises(DataError, match=r"other.parquet can't be called external to runs/chest: A. B. Leave out the f"):
        refuse(("A.", "B."), films="other.parquet", model="runs/chest")
