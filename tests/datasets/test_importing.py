"""Importing: labels from folders and tables, blanks from headers, every bad row named at once, a quick second run."""

import csv
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hilum.arrays import Array
from hilum.datasets import film_facts
from hilum.datasets.chest_labels import SYNONYMS, finding_of
from hilum.datasets.fields import read_age, read_date, read_patient, read_sex, read_view
from hilum.datasets.film_facts import FilmRecord, read_records
from hilum.datasets.importing import ImportConfig, import_csv, import_folder
from hilum.errors import FilmError, LabelError, ManifestError
from hilum.imaging.dicom_writing import FilmHeader, write_film
from hilum.labels import CHEST
from hilum.provenance import sha256_file

SavePng = Callable[[str, int], Path]
Field = Callable[..., Array]


def write_table(path: Path, *rows: dict[str, Any]) -> Path:
    with open(path, "w", newline="") as handle:
        writer = csv.DictWriter(handle, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def write_dicom(path: Path, field: Field, seed: int = 0, **header: Any) -> Path:
    told = {"patient_id": "H-17", "sex": "F", "age_years": 61.0, "study_date": "20240301", "view_position": "AP"}
    device = {"manufacturer": "Synthetic", "device": "Model S", "institution": "Synthetic Hospital"}
    write_film(path, field(seed) >> 4, FilmHeader(**{**told, **device, **header}))
    return path


def problems_of(error: pytest.ExceptionInfo[ManifestError]) -> list[str]:
    return list(error.value.problems)


# Labels and values


@pytest.mark.parametrize(
    ("label", "finding"),
    [
        *[("COVID", "covid-19"), ("covid19", "covid-19"), ("SARS-CoV-2", "covid-19"), ("No Finding", "normal")],
        *[("Pneumonia/Viral/COVID-19", "covid-19"), ("NORMAL", "normal"), ("Bacterial_Pneumonia", "pneumonia")],
    ],
)
def test_synonyms_mean_a_finding(label: str, finding: str) -> None:
    assert finding_of(label) == finding


def test_every_finding_has_synonyms_and_no_synonym_has_two_findings() -> None:
    assert tuple(SYNONYMS) == CHEST.names
    every = list(itertools.chain(*SYNONYMS.values()))
    assert len(every) == len(set(every))


def test_an_unknown_label_lists_the_known_ones_nearest_first() -> None:
    with pytest.raises(LabelError, match=r"'pneumona' is not a finding. Did you mean 'pneumonia'\? Known: normal, pne"):
        finding_of("pneumona")
    with pytest.raises(LabelError, match=r"Did you mean 'covid-19'\?"):
        finding_of("Corona virus")


def test_several_findings_in_one_label_are_refused() -> None:
    with pytest.raises(LabelError, match="names several findings, but a film has one of normal, pneumonia, covid-19"):
        finding_of("Pneumonia|Effusion")


@pytest.mark.parametrize(
    ("text", "date"),
    [
        *[("2020", "2020"), ("2020-3", "2020-03"), ("2020-03-17", "2020-03-17"), ("20200317", "2020-03-17")],
        *[("2020-03-17 10:15:00", "2020-03-17"), ("2020/3/7", "2020-03-07"), ("January 25, 2020", "2020-01-25")],
        *[("Oct 8, 2010", "2010-10-08"), ("17 March 2020", "2020-03-17"), ("March 2020", "2020-03")],
        *[("11/27/19", "2019-11-27"), ("27.11.2019", "2019-11-27"), ("03/09/20", "2020"), ("3/3/1999", "1999-03-03")],
        *[("", ""), ("unknown", "")],
    ],
)
def test_dates_are_read_as_far_as_they_are_certain(text: str, date: str) -> None:
    assert read_date(text) == date


@pytest.mark.parametrize("text", ["2020-13", "2020-02-30", "Smarch 3, 2020", "31/31/2020", "yesterday", "0020"])
def test_what_is_no_date_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a date. Write it as 2020-03-17, 2020-03 or 2020"):
        read_date(text)


def test_ages_are_years_or_dicom_age_strings() -> None:
    assert [read_age(text) for text in ("54", "054Y", "018M", "61.5", "0")] == [54, 54, 1.5, 61.5, 0]
    assert np.isnan(read_age("unknown"))
    for text in ("414", "-3", "old"):
        with pytest.raises(ValueError, match="is not an age in years from 0 to 120"):
            read_age(text)


def test_views_and_sexes_are_read_as_dicom_names_them() -> None:
    assert [read_view(text) for text in ("pa", "AP Supine", "Lateral", "", "unknown")] == ["PA", "AP", "LL", "", ""]
    assert [read_sex(text) for text in ("male", "F", "U", "")] == ["M", "F", "", ""]
    with pytest.raises(ValueError, match=r"view_position 'front' is unknown. Known: PA, AP"):
        read_view("front")
    with pytest.raises(ValueError, match=r"sex 'X' is unknown. Known: M, F, O"):
        read_sex("X")


def test_an_unknown_patient_is_not_one_patient() -> None:
    assert [read_patient(text) for text in ("Unknown", "n/a", " p1 ")] == ["", "", "p1"]


# Folders


def test_class_folders_give_labels(tmp_path: Path, save_png: SavePng) -> None:
    for seed, name in enumerate(("COVID/a.png", "COVID/b.png", "Normal/c.png", "masks/a.png", ".hidden/d.png")):
        save_png(name, seed)
    (tmp_path / "notes.txt").write_text("not a film")
    films, problems = import_folder(tmp_path, workers=0)
    assert problems == []
    assert dict(zip(films.strings("path"), films.strings("label"), strict=True)) == {
        "COVID/a.png": "covid-19",
        "COVID/b.png": "covid-19",
        "Normal/c.png": "normal",
    }


def test_facts_of_a_film_are_measured(tmp_path: Path, save_png: SavePng) -> None:
    path = save_png("normal/a.png", 1)
    films, _ = import_folder(tmp_path, workers=0)
    assert films.strings("film_id") == [sha256_file(path)]
    assert (films.column("width")[0], films.column("height")[0], films.column("bytes")[0]) == (
        96,
        96,
        path.stat().st_size,
    )
    assert films.thumbs()[1].shape == (1, 64, 64)


def test_a_folder_beside_findings_that_is_none_is_a_problem(tmp_path: Path, save_png: SavePng) -> None:
    save_png("normal/a.png", 1)
    save_png("pneumona/b.png", 2)
    with pytest.raises(
        ManifestError, match=r"pneumona/b.png: folder 'pneumona' is not a finding.*Did you mean 'pneumonia'"
    ):
        import_folder(tmp_path, workers=0)


def test_folders_of_patients_give_no_labels(tmp_path: Path, save_png: SavePng) -> None:
    save_png("p1/a.png", 1)
    save_png("p2/b.png", 2)
    assert import_folder(tmp_path, workers=0)[0].strings("label") == ["", ""]


def test_any_labels_are_the_names_of_folders(tmp_path: Path, save_png: SavePng) -> None:
    save_png("train/ants/a.png", 1)
    save_png("train/bees/b.png", 2)
    films, _ = import_folder(tmp_path, ImportConfig(labels="any"), workers=0)
    assert films.strings("label") == ["ants", "bees"]


def test_a_table_inside_a_folder_is_used(tmp_path: Path, save_png: SavePng) -> None:
    save_png("x/a.png", 1)
    save_png("x/b.png", 2)
    write_table(tmp_path / "labels.csv", {"path": "x/a.png", "label": "normal", "patient_id": "p"})
    films, _ = import_folder(tmp_path, workers=0)
    assert (films.strings("path"), films.strings("patient_id")) == (["x/a.png"], ["p"])


@pytest.mark.parametrize(("name", "text"), [("none", "none is not a folder"), (".", "holds no film")])
def test_a_folder_without_films_is_refused(tmp_path: Path, name: str, text: str) -> None:
    with pytest.raises(ManifestError, match=text):
        import_folder(tmp_path / name, workers=0)


def test_dicom_without_a_suffix_or_named_by_uid_is_found(tmp_path: Path, field: Field) -> None:
    write_dicom(tmp_path / "IM0001", field)
    write_dicom(tmp_path / "1.2.826.0.1.77", field, seed=1)
    assert import_folder(tmp_path, workers=0)[0].strings("path") == ["1.2.826.0.1.77", "IM0001"]


# Headers


def test_a_dicom_header_fills_what_the_table_leaves_blank(tmp_path: Path, field: Field) -> None:
    write_dicom(tmp_path / "a.dcm", field)
    table = write_table(
        tmp_path / "t.csv", {"image": "a.dcm", "label": "covid", "age": "60", "sex": "", "source": "us"}
    )
    films, _ = import_csv(table, workers=0)
    row = films.table.drop_columns(["thumb"]).to_pylist()[0]
    told = {"patient_id": "H-17", "age_years": 60.0, "sex": "F", "acquired": "2024-03-01", "view_position": "AP"}
    measured = {"device": "Model S", "manufacturer": "Synthetic", "modality": "DX", "photometric": "MONOCHROME2"}
    assert row.items() >= {**told, **measured, "source": "us", "label": "covid-19", "bits_stored": 12}.items()
    assert row["sop_instance_uid"]
    assert row["study_instance_uid"]


def test_the_institution_is_the_source_where_none_is_told(tmp_path: Path, field: Field) -> None:
    write_dicom(tmp_path / "a.dcm", field)
    assert import_folder(tmp_path, workers=0)[0].strings("source") == ["Synthetic Hospital"]


def test_a_default_source_is_for_films_without_one(tmp_path: Path, field: Field, save_png: SavePng) -> None:
    write_dicom(tmp_path / "a.dcm", field)
    save_png("b.png", 1)
    films, _ = import_folder(tmp_path, ImportConfig(source="here"), workers=0)
    assert films.strings("source") == ["Synthetic Hospital", "here"]


def test_a_header_that_contradicts_the_table_is_a_problem_that_names_no_patient(tmp_path: Path, field: Field) -> None:
    write_dicom(tmp_path / "a.dcm", field)
    row = {"path": "a.dcm", "patient_id": "OTHER-9", "sex": "M", "age": "40", "date": "2024-04"}
    with pytest.raises(ManifestError) as caught:
        import_csv(write_table(tmp_path / "t.csv", row), workers=0)
    (text,) = problems_of(caught)
    assert text.startswith("t.csv, row 2: ")
    assert "patient_id differs from the one in the film's header" in text
    assert "sex is 'M', but the film's header says 'F'" in text
    assert "age_years is 40.0, but the film's header says 61.0" in text
    assert "acquired is '2024-04', but the film's header says '2024-03-01'" in text
    assert "H-17" not in text
    assert "OTHER-9" not in text


# Bad rows


def test_thirty_seven_bad_rows_give_thirty_seven_reasons(tmp_path: Path, save_png: SavePng) -> None:
    save_png("good.png", 0)
    rows = [{"path": f"missing{i}.png", "label": "normal"} for i in range(37)]
    rows.insert(5, {"path": "good.png", "label": "normal"})
    table = write_table(tmp_path / "t.csv", *rows)
    with pytest.raises(ManifestError) as caught:
        import_csv(table, workers=0)
    assert len(problems_of(caught)) == 37
    assert problems_of(caught)[0] == ("t.csv, row 2: missing0.png is not a file. Correct the path, or delete the row.")
    films, problems = import_csv(table, ImportConfig(skip_bad_rows=True), workers=0)
    assert len(films) == 1
    assert len(problems) == 37


def test_each_kind_of_bad_row_has_its_reason(tmp_path: Path, save_png: SavePng) -> None:
    for seed, name in enumerate("abcdefg"):
        save_png(f"{name}.png", seed)
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "cut.png").write_bytes((tmp_path / "a.png").read_bytes()[:300])
    (tmp_path / "text.png").write_text("hello")
    blank = {"path": "", "label": "", "age": "", "sex": "", "view": "", "date": "", "mask": ""}
    rows = [
        {},
        {"path": "a.png", "label": "tuberculosis"},
        {"path": "b.png", "age": "414"},
        {"path": "c.png", "sex": "x", "view": "front"},
        {"path": "d.png", "date": "soon"},
        {"path": "e.png", "mask": "none.png"},
        {"path": "f.png"},
        {"path": "f.png"},
        {"path": "empty.png"},
        {"path": "cut.png"},
        {"path": "text.png"},
    ]
    with pytest.raises(ManifestError) as caught:
        import_csv(write_table(tmp_path / "t.csv", *({**blank, **row} for row in rows)), workers=0)
    texts = problems_of(caught)
    for text, (row, reason) in zip(
        texts,
        [
            (3, "label 'tuberculosis' is not a finding. Known: normal, pneumonia, covid-19."),
            (4, "age '414' is not an age"),
            (5, "sex 'x' is unknown"),
            (6, "date 'soon' is not a date"),
            (7, "mask none.png is not a file"),
            (9, "f.png is listed before, at t.csv, row 8"),
            (10, "empty.png: The file is empty"),
            (11, "cut.png: "),
            (12, "text.png: The file is neither DICOM"),
        ],
        strict=True,
    ):
        assert text.startswith(f"t.csv, row {row}: ")
        assert reason in text
    assert "view_position 'front' is unknown" in texts[2]


def test_an_empty_path_is_a_problem(tmp_path: Path, save_png: SavePng) -> None:
    save_png("a.png", 0)
    table = write_table(tmp_path / "t.csv", {"path": "a.png", "label": ""}, {"path": "", "label": "normal"})
    with pytest.raises(ManifestError, match="row 3: path is empty. Name the film's file"):
        import_csv(table, workers=0)


def test_a_row_with_too_few_values_is_a_problem(tmp_path: Path, save_png: SavePng) -> None:
    save_png("a.png", 0)
    (tmp_path / "t.csv").write_text("path,label\na.png\n")
    with pytest.raises(ManifestError, match=r"row 2: the row has 1 values, but the heading 2"):
        import_csv(tmp_path / "t.csv", workers=0)


def test_bad_rows_alone_are_refused_even_when_they_may_be_skipped(tmp_path: Path) -> None:
    table = write_table(tmp_path / "t.csv", {"path": "gone.png"})
    with pytest.raises(ManifestError, match=r"gone.png is not a file"):
        import_csv(table, ImportConfig(skip_bad_rows=True), workers=0)


# Tables


def test_semicolons_a_byte_order_mark_and_foreign_headings_are_read(tmp_path: Path, save_png: SavePng) -> None:
    save_png("a.png", 0)
    text = "\ufeffImage Index;Finding Labels;Patient ID;Patient Age;Patient Gender;View Position;Extra\n"
    (tmp_path / "t.csv").write_text(f"{text}a.png;No Finding;7;058Y;F;PA;x\n", encoding="utf-8")
    films, _ = import_csv(tmp_path / "t.csv", ImportConfig(keep=("Extra",)), workers=0)
    told = {"label": "normal", "patient_id": "7", "age_years": 58.0, "sex": "F", "view_position": "PA", "Extra": "x"}
    assert films.table.to_pylist()[0].items() >= told.items()


def test_columns_that_nobody_asked_for_are_left_out_and_named(tmp_path: Path, save_png: SavePng) -> None:
    save_png("a.png", 0)
    films, _ = import_csv(write_table(tmp_path / "t.csv", {"path": "a.png", "name": "Doe^John"}), workers=0)
    assert "name" not in films.table.column_names
    assert films.notes["import"]["columns_left_out"] == ["name"]


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"", "lists no film"),
        (b"path,label\n", "lists no film"),
        (b"path\n\xff\xfe\n", "is not UTF-8"),
        (b"film_name,label\na.png,normal\n", r"t.csv has no column 'path' \(or image, file"),
        (None, "can't be opened"),
    ],
)
def test_a_table_that_can_not_be_used_is_refused(tmp_path: Path, content: bytes | None, text: str) -> None:
    if content is not None:
        (tmp_path / "t.csv").write_bytes(content)
    with pytest.raises(ManifestError, match=text):
        import_csv(tmp_path / "t.csv", workers=0)


def test_a_kept_column_must_exist(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"no column 'licens'. Did you mean 'licence'\?"):
        import_csv(write_table(tmp_path / "t.csv", {"path": "a", "licence": "x"}), ImportConfig(keep=("licens",)))


# The cache, and processes


def test_a_second_import_reads_only_what_changed(
    tmp_path: Path, save_png: SavePng, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = [save_png(f"{i}.png", i) for i in range(3)]
    cache = tmp_path / "out" / ".facts.sqlite"
    first = read_records(paths, cache=cache, workers=0)
    save_png("1.png", 99)
    read = []
    monkeypatch.setattr(film_facts, "read_record", lambda path: read.append(path) or first[1])
    second = read_records(paths, cache=cache, workers=0)
    assert read == [paths[1]]
    assert isinstance(second[0], FilmRecord)
    assert isinstance(first[0], FilmRecord)
    assert second[0].facts == first[0].facts
    assert (second[0].sha256, second[0].size) == (first[0].sha256, first[0].size)
    assert (second[0].thumb == first[0].thumb).all()


def test_films_read_before_a_kill_are_kept(tmp_path: Path, save_png: SavePng, monkeypatch: pytest.MonkeyPatch) -> None:
    """The cache is committed as it grows: what a killed process had read is there for the next."""
    paths = [save_png(f"{i}.png", i) for i in range(4)]
    cache = film_facts.FactCache(tmp_path / "c.sqlite")
    monkeypatch.setattr(film_facts, "COMMIT_EVERY", 2)
    with cache:
        for path in paths[:3]:
            cache.keep(path, film_facts.read_record(path))
        with film_facts.FactCache(tmp_path / "c.sqlite") as other:
            assert [other.find(path) is not None for path in paths] == [True, True, False, False]


def test_a_damaged_cache_is_begun_anew(tmp_path: Path, save_png: SavePng) -> None:
    path, cache = save_png("a.png", 1), tmp_path / "c.sqlite"
    cache.write_bytes(b"this is no database, whatever its name says" * 50)
    assert isinstance(read_records([path], cache=cache, workers=0)[0], FilmRecord)
    with film_facts.FactCache(cache) as facts:
        assert facts.find(path) is not None


def test_a_cache_of_another_schema_is_begun_anew(
    tmp_path: Path, save_png: SavePng, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, cache = save_png("a.png", 1), tmp_path / "c.sqlite"
    read_records([path], cache=cache, workers=0)
    monkeypatch.setattr(film_facts, "SCHEMA", "another")
    with film_facts.FactCache(cache) as facts:
        assert facts.find(path) is None


def test_sandboxed_processes_give_the_same_records_and_contain_damage(tmp_path: Path, save_png: SavePng) -> None:
    paths = [save_png("a.png", 1), save_png("b.png", 2), tmp_path / "empty.png"]
    paths[2].write_bytes(b"")
    here, there = read_records(paths, workers=0), read_records(paths, workers=2)
    for one, other in zip(here[:2], there[:2], strict=True):
        assert isinstance(one, FilmRecord)
        assert isinstance(other, FilmRecord)
        assert (one.sha256, one.facts) == (other.sha256, other.facts)
        assert (one.thumb == other.thumb).all()
    assert isinstance(there[2], FilmError)
    assert there[2].code == "empty"


# Tables that are taken at their word


def hashed(tmp_path: Path, *hashes: str, **columns: str) -> Path:
    rows = [{"path": f"{i}.png", "SHA-256": one, "label": "normal", **columns} for i, one in enumerate(hashes)]
    return write_table(tmp_path / "table.csv", *rows)


def test_a_table_with_hashes_needs_no_film(tmp_path: Path) -> None:
    """Films are not looked for; nothing is known of their pixels."""
    films, problems = import_csv(hashed(tmp_path, "A" * 64, "b" * 64), ImportConfig(read_films=False))
    assert problems == []
    assert films.strings("film_id") == ["a" * 64, "b" * 64]
    assert films.column("width").tolist() == [0, 0]
    assert len(films.thumbs()[0]) == 0


def test_a_table_without_hashes_is_not_taken_at_its_word(tmp_path: Path) -> None:
    table = hashed(tmp_path, "", "abc", "c" * 64)
    with pytest.raises(ManifestError) as error:
        import_csv(table, ImportConfig(read_films=False))
    first, second = problems_of(error)
    assert first == "table.csv, row 2: film_id is empty, and films are not read. Fill it, or read them."
    assert second.startswith("table.csv, row 3: film_id 'abc' is not a SHA-256 (64 hex digits). Correct it")
    with pytest.raises(ManifestError, match="table.csv has no column 'film_id' or 'sha256', so films must be read"):
        import_csv(write_table(tmp_path / "table.csv", {"path": "a.png"}), ImportConfig(read_films=False))


def test_a_table_s_hash_must_be_the_file_s(save_png: SavePng, tmp_path: Path) -> None:
    """Where films are read; blank is allowed."""
    paths = [save_png(f"{i}.png", i) for i in range(3)]
    table = hashed(tmp_path, sha256_file(paths[0]).upper(), "", "d" * 64)
    with pytest.raises(ManifestError) as error:
        import_csv(table, workers=0)
    assert problems_of(error) == [
        "table.csv, row 4: film_id is not the SHA-256 of the file. Correct the table, or leave it blank."
    ]
    films, _ = import_csv(table, ImportConfig(skip_bad_rows=True), workers=0)
    assert films.strings("film_id") == [sha256_file(path) for path in paths[:2]]
