"""Scores behind numbers: side by side by hand, through a file, and refused where they don't fit."""

from pathlib import Path

import numpy as np
import pytest

from hilum.errors import DataError
from hilum.evaluation.backing import SHUFFLED, Backing, read_backings, write_backings


def made() -> Backing:
    columns = {"score: a": np.array([0.1, 0.2]), "score: b": np.array([0.9, 0.8])}
    backing = Backing.of(columns, ["p", "q"], film_ids=["f", "g"], truth=["a", "b"], classes=np.array([0, 1]))
    return backing + Backing.single(SHUFFLED, np.array([0.4, 0.5, 0.6]))


def test_columns_stand_side_by_side() -> None:
    scored = made().scored("score: ")
    assert scored.columns == ("a", "b")
    assert scored.values.tolist() == [[0.1, 0.9], [0.2, 0.8]]
    assert (scored.film_ids, scored.patient_ids, scored.truth) == (("f", "g"), ("p", "q"), ("a", "b"))
    assert scored.classes.tolist() == [0, 1]
    assert made().of_truth("b").value.tolist() == [0.2, 0.8]


def test_a_file_gives_back_what_was_written(tmp_path: Path) -> None:
    both = {("one", ""): made(), ("two", "inside"): Backing.of({"value": np.array([np.pi])}, ["p"])}
    write_backings(tmp_path / "x.parquet", both)
    again = read_backings(tmp_path / "x.parquet")
    assert list(again) == list(both)
    for key, backing in both.items():
        assert again[key].value.tolist() == backing.value.tolist()
        assert again[key].classes.tolist() == backing.classes.tolist()
        for name in ("film_ids", "patient_ids", "truth", "column"):
            assert getattr(again[key], name) == getattr(backing, name)
    write_backings(tmp_path / "none.parquet", {})
    assert read_backings(tmp_path / "none.parquet") == {}


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"No column begins with 'value': there are \['mean AUROC"):
        made().scored("value")
    uneven = made() + Backing.of({"score: c": np.array([0.5])}, ["p"])
    with pytest.raises(DataError, match="'score: c'] are of different films"):
        uneven.scored("score: ")
    (tmp_path / "x.parquet").write_bytes(b"no table")
    with pytest.raises(DataError, match="holds no scores behind numbers"):
        read_backings(tmp_path / "x.parquet")
