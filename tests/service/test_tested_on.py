"""What a model was tested on stands beside its answer, out of its card; what it was fitted on is no test."""

from hilum.bundle.card import DataSet, ModelCard
from hilum.service.bundled import validated_on


def test_the_sets_that_were_tested_are_named_and_the_fitted_one_is_not() -> None:
    sets = (
        DataSet(name="fit part", films=195, patients=161),
        DataSet(name="external test", films=1250, patients=199, sources={"hospital-b": 1250}),
        DataSet(name="no films"),
    )
    card = ModelCard(name="chest", version="1", data=sets)
    assert validated_on(card) == ("external test: 1,250 films of 199 patients from hospital-b",)
    assert validated_on(None) == ()
