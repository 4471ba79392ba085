"""External is a claim: shared films, patients, sources and pretraining data speak against it."""

from collections.abc import Callable
from dataclasses import replace

from hilum.evaluation.externality import Development, why_not_external
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
