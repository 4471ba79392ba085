"""What a run has seen, held against films that are said to be external, before one of them is answered."""

from pathlib import Path

import pytest

from hilum.datasets.manifest import Manifest
from hilum.errors import DataError
from hilum.runs.evaluate import evaluate
from hilum.runs.external import development, why_shared
from hilum.runs.run import Run


def test_another_hospital_is_external_and_the_own_films_are_refused(run: Run, cohort: Path) -> None:
    assert why_shared(run, Manifest.read(cohort / "external.parquet")) == ()
    with pytest.raises(DataError, match=r"split.parquet can't be called external to .*: \d+ of \d+ films were already"):
        evaluate(run, on=cohort / "split.parquet", external=True, resamples=100)
    assert not run.folder.evaluation("external").joinpath("split.parquet").exists()


def test_a_copy_under_another_name_of_another_patient_is_refused(run: Run, cohort: Path) -> None:
    """The own films again, with other hashes, patients and source: only their look tells."""
    own = Manifest.read(cohort / "split.parquet").select([0, 1, 2])
    masked = own.with_columns(
        film_id=["a" * 64, "b" * 64, "c" * 64],
        patient_id=["x", "y", "z"],
        source=["elsewhere"] * 3,
        sop_instance_uid=[""] * 3,
    )
    assert why_shared(run, masked) == ("3 of 3 films look like copies of films that were used to develop the model.",)


def test_what_weights_have_seen_can_be_declared(run: Run) -> None:
    assert development(run).pretrained_on == ("procedural images of hilum.datasets.procedural",)
    assert development(run, ["CheXpert"]).pretrained_on[-1] == "CheXpert"
    silent = Run(run.folder, run.config, {**run.result, "weights": {"pretrained_on": ["not recorded"]}})
    assert development(silent).pretrained_on == ("not recorded",)
    assert development(silent, ["imagenet-1k"]).pretrained_on == ("imagenet-1k",)
