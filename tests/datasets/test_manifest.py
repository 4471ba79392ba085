"""The manifest: typed, complete, columnar, the same after a round trip, and clear about what is wrong."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hilum.datasets.columns import COLUMNS, age_bands
from hilum.datasets.manifest import Manifest
from hilum.errors import ConfigError, LabelError, ManifestError, UsageError
from hilum.labels import CHEST


def three(folder: Path) -> Manifest:
    columns = {
        "path": ["a/1.png", "a/2.png", "/elsewhere/3.png"],
        "film_id": ["f1", "f2", "f3"],
        "label": ["covid-19", None, "normal"],
        "age_years": [4, None, 61.5],
        "view_position": ["PA", "", "AP"],
        "thumb": [None, b"\x07" * 4096, None],
    }
    return Manifest.from_columns(columns, folder=folder)


def test_columns_that_are_not_given_are_blank(tmp_path: Path) -> None:
    films = three(tmp_path)
    assert set(COLUMNS) <= set(films.table.column_names)
    assert films.strings("source") == ["", "", ""]
    assert films.column("fold").tolist() == [-1, -1, -1]
    assert np.isnan(films.column("age_years")[1])


def test_a_written_manifest_reads_back_equal(tmp_path: Path) -> None:
    films = three(tmp_path).with_note("made", {"by": "test"})
    back = Manifest.read(films.write(tmp_path / "m.parquet"))
    assert repr(back.table.to_pylist()) == repr(films.table.to_pylist())
    assert back.notes == {"made": {"by": "test"}}
    assert back.fingerprint == films.fingerprint


def test_thumbs_can_be_left_unread(tmp_path: Path) -> None:
    path = three(tmp_path).write(tmp_path / "m.parquet")
    assert len(Manifest.read(path, thumbs=False).thumbs()[0]) == 0
    rows, thumbs = Manifest.read(path).thumbs()
    assert rows.tolist() == [1]
    assert thumbs.shape == (1, 64, 64)
    assert (thumbs == 7).all()


def test_thumbs_are_taken_as_an_array_too(tmp_path: Path) -> None:
    thumbs = np.arange(2 * 4096).astype(np.uint8).reshape(2, 64, 64)
    films = Manifest.from_columns({"path": ["a", "b"], "thumb": thumbs}, folder=tmp_path)
    assert (films.thumbs()[1] == thumbs).all()


def test_paths_are_relative_to_the_manifest_where_they_lie_below_it(tmp_path: Path) -> None:
    films = three(tmp_path / "data")
    beside, above = films.write(tmp_path / "data/m.parquet"), films.write(tmp_path / "m.parquet")
    apart = films.write(tmp_path / "out/m.parquet")
    assert Manifest.read(beside).strings("path") == ["a/1.png", "a/2.png", "/elsewhere/3.png"]
    assert Manifest.read(above).strings("path") == ["data/a/1.png", "data/a/2.png", "/elsewhere/3.png"]
    assert Manifest.read(apart).strings("path")[0] == str(tmp_path / "data/a/1.png")
    paths = [Manifest.read(path).film_paths() for path in (beside, above, apart)]
    assert paths[0] == paths[1] == paths[2]


def test_blank_masks_stay_blank_when_the_manifest_moves(tmp_path: Path) -> None:
    films = Manifest.from_columns({"path": ["1.png", "2.png"], "mask": ["m/1.png", ""]}, folder=tmp_path / "data")
    moved = films.in_folder(tmp_path)
    assert moved.mask_paths() == [tmp_path / "data/m/1.png", None]


def test_the_fingerprint_depends_on_content_and_not_on_order_place_or_thumbs(tmp_path: Path) -> None:
    films = three(tmp_path)
    assert films.select([2, 0, 1]).fingerprint == films.fingerprint
    assert films.in_folder(tmp_path / "other").fingerprint == films.fingerprint
    assert films.with_columns(thumb=[None] * 3).fingerprint == films.fingerprint
    assert films.with_columns(label=["normal", "", "normal"]).fingerprint != films.fingerprint
    assert films.with_columns(part=["fit", "fit", "test"]).fingerprint != films.fingerprint


def test_targets_are_one_hot_and_nan_where_unknown(tmp_path: Path) -> None:
    targets = three(tmp_path).targets(CHEST)
    assert targets[0].tolist() == [0, 0, 1]
    assert np.isnan(targets[1]).all()
    assert targets[2].tolist() == [1, 0, 0]


def test_targets_refuse_a_label_that_is_no_finding(tmp_path: Path) -> None:
    films = Manifest.from_columns({"path": ["a"], "label": ["covid"]}, folder=tmp_path)
    with pytest.raises(LabelError, match=r"'covid' is not a finding.*covid-19"):
        films.targets(CHEST)


def test_groups_say_not_recorded_for_blanks(tmp_path: Path) -> None:
    groups = three(tmp_path).groups()
    assert groups["view_position"] == ("PA", "not recorded", "AP")
    assert groups["age_band"] == ("0-17", "not recorded", "60-79")
    assert groups["source"] == ("not recorded",) * 3


def test_age_bands_close_below_and_open_above() -> None:
    bands = age_bands(np.array([0, 17.9, 18, 39.99, 40, 80, 104, np.nan]))
    assert bands.tolist() == ["0-17", "0-17", "18-39", "18-39", "40-59", "80+", "80+", "not recorded"]


def test_labels_come_in_the_findings_order(tmp_path: Path) -> None:
    films = Manifest.from_columns({"path": list("abcd"), "label": ["covid-19", "zebra", "normal", ""]}, folder=tmp_path)
    assert films.labels == ["normal", "covid-19", "zebra"]


def test_codes_number_the_levels_in_alphabetical_order(tmp_path: Path) -> None:
    films = Manifest.from_columns({"path": list("abcd"), "source": ["y", "x", "", "y"]}, folder=tmp_path)
    codes, levels = films.codes("source")
    assert levels == ("", "x", "y")
    assert codes.tolist() == [2, 1, 0, 2]


def test_rows_of_a_part_and_of_a_fold(tmp_path: Path) -> None:
    films = three(tmp_path).with_columns(part=["fit", "test", "fit"], fold=[0, -1, 1])
    assert films.rows(part="fit").tolist() == [0, 2]
    assert films.rows(part="fit", fold=1).tolist() == [2]
    with pytest.raises(UsageError, match=r"Part 'train' is not one of a split's. Known: fit, test"):
        films.rows(part="train")


def test_an_unknown_column_lists_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"column 'view' is unknown. .*view_position"):
        three(tmp_path).column("view")


def test_the_thumb_column_is_asked_for_by_its_own_method(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"Ask for .thumbs\(\)"):
        three(tmp_path).column("thumb")


def test_all_wrong_columns_are_reported_at_once(tmp_path: Path) -> None:
    with pytest.raises(ManifestError) as caught:
        Manifest.from_columns({"age_years": ["old"], "label": [3], "thumb": [b"short"]}, folder=tmp_path)
    text = str(caught.value)
    assert "'age_years' holds string, but must be number" in text
    assert "'label' holds int64, but must be text" in text
    assert "'thumb' can't be kept as vector (vectors of [5] bytes instead of 4096)" in text
    assert "needs the column 'path'" in text


def test_columns_of_different_lengths_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"must be of one length, but are \{'path': 1, 'label': 2\}"):
        Manifest.from_columns({"path": ["a"], "label": ["x", "y"]}, folder=tmp_path)


@pytest.mark.parametrize(
    ("content", "text"),
    [(None, "is not a file. Make a manifest with hilum data import"), (b"PAR1", "can't be read as Parquet")],
)
def test_a_manifest_that_is_none_is_refused(tmp_path: Path, content: bytes | None, text: str) -> None:
    path = tmp_path / "m.parquet"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ManifestError, match=text):
        Manifest.read(path)


def test_a_folder_where_a_manifest_belongs_gets_the_command_that_makes_one(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=rf"{tmp_path} is a folder, not a manifest\. .*data import {tmp_path} "):
        Manifest.read(tmp_path)


def test_a_foreign_table_is_refused_by_name(tmp_path: Path) -> None:
    pq.write_table(pa.table({"x": [1]}), tmp_path / "x.parquet")
    with pytest.raises(ManifestError, match=r"x.parquet: .*needs the column 'path'"):
        Manifest.read(tmp_path / "x.parquet")


def test_the_split_of_a_manifest_checks_its_settings(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"unknown key 'shares'"):
        three(tmp_path).split(by="patient_id", shares=0.2)
