"""Findings, streams, errors, predictions, provenance and progress."""

import io
import pickle
from pathlib import Path

import numpy as np
import pytest

import hilum
from hilum.errors import DataError, FilmError, LabelError, MissingExtra, UsageError, nearest
from hilum.labels import CHEST, Findings
from hilum.predictions import Predictions
from hilum.progress import Lines, Silent, track
from hilum.provenance import combined_hash, environment, now_utc, sha256_bytes, sha256_file
from hilum.randomness import seed_for, stream


def test_targets_are_one_hot_and_nan_where_unknown() -> None:
    targets = CHEST.targets(["covid-19", None, "normal", ""])
    assert targets[0].tolist() == [0, 0, 1]
    assert targets[2].tolist() == [1, 0, 0]
    assert np.isnan(targets[[1, 3]]).all()


def test_an_unknown_label_lists_the_known_ones_nearest_first() -> None:
    with pytest.raises(LabelError, match=r"Label 'covid19' is not a finding. Did you mean 'covid-19'\? Known: normal"):
        CHEST.targets(["covid19"])


@pytest.mark.parametrize("names", [("a",), ("a", "a"), ("a", " ")])
def test_findings_are_distinct_and_at_least_two(names: tuple[str, ...]) -> None:
    with pytest.raises(UsageError, match="Findings"):
        Findings(names)


def test_streams_are_named_and_reproducible() -> None:
    assert seed_for(0, "augment", 3) == seed_for(0, "augment", 3)
    assert len({seed_for(0, "a"), seed_for(1, "a"), seed_for(0, "b"), seed_for(0, "a", 1), seed_for(0, "a", "1")}) == 5
    assert 0 <= seed_for(7, "x") < 2**63
    assert stream(0, "split").integers(1 << 30) == stream(0, "split").integers(1 << 30)


def test_seed_is_the_same_on_every_machine() -> None:
    assert seed_for(0, "split") == 6682928078616706572


@pytest.mark.parametrize(
    ("typed", "meant"),
    [("vgg61", "vgg16"), ("vgg61_bn", "vgg16_bn"), ("vgg12", "vgg11"), ("vgg15", "vgg16"), ("vgg20", "vgg19")],
)
def test_nearest_goes_by_letters_in_order_then_in_any_then_by_the_number(typed: str, meant: str) -> None:
    known = ["vgg11", "vgg11_bn", "vgg13", "vgg16", "vgg16_bn", "vgg19", "vgg19_bn"]
    assert nearest(typed, known).startswith(f"Did you mean {meant!r}?")


def test_nearest_says_nothing_of_a_far_name() -> None:
    assert nearest("zzz", ["alexnet", "vgg16"]) == "Known: alexnet, vgg16."


def test_where_names_are_many_the_command_that_lists_them_is_named() -> None:
    known = ["alexnet", "vgg16"]
    assert nearest("vgg61", known, listed_by="hilum models list") == (
        "Did you mean 'vgg16'? hilum models list shows all 2."
    )
    assert nearest("zzz", known, listed_by="hilum models list") == "hilum models list shows all 2."


def test_film_error_survives_the_way_from_a_child_process() -> None:
    error = pickle.loads(pickle.dumps(FilmError("Film a.dcm is empty.", code="empty")))
    assert (str(error), error.code) == ("Film a.dcm is empty.", "empty")


def test_missing_extra_names_the_mend() -> None:
    assert "pip install 'hilum[train]'" in str(MissingExtra("train", "hilum train"))


def test_lazy_exports_name_what_there_is() -> None:
    assert hilum.Findings is Findings
    with pytest.raises(AttributeError, match="no attribute 'Findngs'; it exports"):
        _ = hilum.Findngs


def predictions(n: int = 4) -> Predictions:
    rng = stream(0, "test")
    logits = rng.normal(size=(n, 3))
    probs = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    targets = CHEST.targets(["normal", "covid-19", None, "pneumonia"])
    return Predictions(
        findings=CHEST,
        film_ids=("a", "b", "c", "d"),
        patient_ids=("p", "p", "q", "r"),
        logits=logits,
        probs=probs,
        targets=targets,
        groups={"source": ("x", "x", "y", "not recorded")},
        uncertainty={"mutual_information": rng.random(n)},
    )


def test_predictions_survive_parquet_bit_for_bit(tmp_path: Path) -> None:
    given = predictions()
    given.write(tmp_path / "p.parquet")
    back = Predictions.read(tmp_path / "p.parquet")
    for name in ("logits", "probs", "targets"):
        np.testing.assert_array_equal(getattr(back, name), getattr(given, name))
    assert (back.film_ids, back.patient_ids, back.groups) == (given.film_ids, given.patient_ids, given.groups)
    np.testing.assert_array_equal(back.uncertainty["mutual_information"], given.uncertainty["mutual_information"])


def test_labelled_leaves_out_unknown_labels() -> None:
    assert predictions().labelled.film_ids == ("a", "b", "d")


def test_predictions_refuse_shapes_that_disagree() -> None:
    with pytest.raises(DataError, match=r"need logits \[1, 3\], but got \(1, 2\)"):
        Predictions(
            findings=CHEST,
            film_ids=("a",),
            patient_ids=("p",),
            logits=np.zeros((1, 2)),
            probs=np.zeros((1, 3)),
            targets=np.zeros((1, 3)),
        )
    with pytest.raises(DataError, match="patient_ids has 0 values. Give one a film"):
        Predictions(
            findings=CHEST,
            film_ids=("a",),
            patient_ids=(),
            logits=np.zeros((1, 3)),
            probs=np.zeros((1, 3)),
            targets=np.zeros((1, 3)),
        )


def test_reading_what_is_no_table_of_predictions(tmp_path: Path) -> None:
    (tmp_path / "p.parquet").write_bytes(b"no parquet")
    with pytest.raises(DataError, match="can't be read as Parquet"):
        Predictions.read(tmp_path / "p.parquet")
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"x": [1]}), tmp_path / "q.parquet")
    with pytest.raises(DataError, match=r"holds no predictions \(columns: x\)"):
        Predictions.read(tmp_path / "q.parquet")


def test_hashes_of_file_and_bytes_agree(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"abc")
    digest = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # FIPS 180-2, B.1
    assert sha256_file(tmp_path / "x") == sha256_bytes(b"abc") == digest
    assert combined_hash(["a", "bc"]) != combined_hash(["ab", "c"])


def test_environment_names_packages_and_processor() -> None:
    facts = environment()
    assert facts["packages"]["numpy"] == np.__version__
    assert facts["cpu_count"] >= 1
    assert now_utc().endswith("Z")


def test_lines_progress_says_what_when_and_how_many() -> None:
    out = io.StringIO()
    progress = Lines(out, every_s=0)
    assert list(track("ab", progress, "Reading", 2)) == ["a", "b"]
    assert "Reading: 2/2" in out.getvalue()
    assert out.getvalue().splitlines()[0].endswith(" s · about 0 s left")
    assert out.getvalue().rstrip().endswith("done")
    assert list(track("ab", Silent(), "x")) == ["a", "b"]


def test_a_line_tells_once_how_long_the_rest_takes() -> None:
    """A training counts batches, the bar whole epochs: "6:46 left at most … about 601 s left" stood in one line."""
    out = io.StringIO()
    with Lines(out, every_s=0).bar("stage head", 4) as bar:
        bar.advance(2, "epoch 3/4 · 0:25 left at most")
        bar.advance(1, "loss 0.500")
    first, second, *_ = out.getvalue().splitlines()
    assert first.count("left") == 1
    assert second.count("left") == 1, "an epoch that ended tells nothing of the rest"


def test_the_first_few_steps_say_nothing_of_the_rest() -> None:
    """They also load and warm up."""
    out = io.StringIO()
    list(track(range(40), Lines(out, every_s=0), "Reading", 40))
    told = out.getvalue().splitlines()
    assert not any("left" in line for line in told[:3])
    assert "left" in told[3]


def test_progress_says_when_a_step_stopped() -> None:
    out = io.StringIO()
    with pytest.raises(ValueError, match="x"), Lines(out).bar("Reading", 2):
        raise ValueError("x")
    assert out.getvalue().rstrip().endswith("stopped")
