"""``hilum data``: import, check and split from the terminal, for people and as JSON."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hilum.cli import main
from hilum.datasets.manifest import Manifest

SavePng = Callable[[str, int], Path]


def hilum(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    """Run the command line in this process; its exit code."""
    monkeypatch.setattr(sys, "argv", ["hilum", "data", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


def last_json(text: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(text.strip().splitlines()[-1])
    return found


@pytest.fixture
def folder(tmp_path: Path, save_png: SavePng) -> Path:
    """Thirty films in two class folders, one patient each, listed in a table."""
    rows = ["path,label,patient_id,source"]
    for i in range(30):
        save_png(f"films/{i}.png", i)
        rows.append(f"{i}.png,{('normal', 'covid')[i % 2]},p{i},{'ab'[i % 2]}")
    (tmp_path / "films/labels.csv").write_text("\n".join(rows) + "\n")
    return tmp_path / "films"


def test_import_check_and_split_follow_one_another(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest, out = tmp_path / "m.parquet", tmp_path / "s.parquet"
    assert hilum(monkeypatch, "import", folder, "--out", manifest, "--workers", 0, "-q", "--json") == 0
    told = last_json(capsys.readouterr().out)
    assert (told["films"], told["labels"], told["left_out"]) == (30, {"covid-19": 15, "normal": 15}, [])
    assert told["fingerprint"] == Manifest.read(manifest).fingerprint
    assert Manifest.read(manifest).strings("path")[0] == "films/0.png"

    assert hilum(monkeypatch, "check", manifest, "-q") == 0
    text = capsys.readouterr().out
    assert "RED: All 15 films of 'normal' come from one source, 'a'" in text

    assert hilum(monkeypatch, "split", manifest, "--out", out, "--folds", 3, "-q", "--json") == 0
    told = last_json(capsys.readouterr().out)
    assert told["path"] == str(out)
    assert told["overlap"] == {"patients": 0, "sop_instances": 0, "files": 0, "copies": 0}
    assert set(Manifest.read(out).strings("part")) == {"fit", "test"}


def test_an_import_ends_with_the_next_command(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out, arguments = tmp_path / "m.parquet", ("--workers", 0, "-q")
    assert hilum(monkeypatch, "import", folder, "--out", out, *arguments) == 0
    assert capsys.readouterr().out.splitlines()[-1] == f"next: hilum data check {out}"
    (folder / "labels.csv").unlink()
    assert hilum(monkeypatch, "import", folder, "--out", out, *arguments) == 0
    assert capsys.readouterr().out.splitlines()[-2:] == [
        f"No film has a label, and training needs them: give a table {folder}/labels.csv with the columns image and "
        "label, or folders named as the findings.",
        f"next: hilum data import {folder} --out {out}",
    ]
    table = folder / "films.csv"
    table.write_text("image\n0.png\n1.png\n")
    assert hilum(monkeypatch, "import", table, "--out", out, *arguments) == 0
    assert capsys.readouterr().out.splitlines()[-2:] == [
        f"No film has a label, and training needs them: give a column label in {table}.",
        f"next: hilum data import {table} --out {out}",
    ]


def test_a_table_in_a_folder_below_is_told_as_passed_over(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "m.parquet"
    assert hilum(monkeypatch, "import", tmp_path, "--out", out, "--workers", 0, "-q", "--json") == 0
    told = capsys.readouterr()
    assert "tables passed over, with their labels: films/labels.csv (import a table by itself" in told.err
    assert last_json(told.out)["tables_passed_over"] == ["films/labels.csv"]
    assert hilum(monkeypatch, "import", folder, "--out", out, "--workers", 0, "-q") == 0
    assert "passed over" not in capsys.readouterr().out


def test_bad_rows_are_all_named_and_nothing_is_written(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for i in range(4):
        (folder / f"{i}.png").write_bytes(b"")
    out = tmp_path / "m.parquet"
    assert hilum(monkeypatch, "import", folder / "labels.csv", "--out", out, "--workers", 0, "-q") == 1
    text = capsys.readouterr().err
    assert text.count("The file is empty") == 4
    assert "labels.csv, row 5: 3.png: " in text
    assert not out.exists()

    options = ("--workers", 0, "-q", "--skip-bad-rows")
    assert hilum(monkeypatch, "import", folder / "labels.csv", "--out", out, *options) == 0
    text = capsys.readouterr().out
    assert text.count("left out: labels.csv, row") == 4
    assert "26 films imported, 4 left out: covid-19 13, normal 13." in text


def test_wrong_choices_are_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert hilum(monkeypatch, "split", tmp_path / "m.parquet", "--out", tmp_path / "s.parquet", "--by", "hospital") == 2
    assert "hilum: split.by is 'hospital'. Known: patient, time, source." in capsys.readouterr().err
    assert hilum(monkeypatch, "check", tmp_path / "m.parquet") == 1
    assert "is not a file. Make a manifest with hilum data import" in capsys.readouterr().err
