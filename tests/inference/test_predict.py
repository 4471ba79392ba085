"""Many files: bad ones are listed and never stop the rest, an interruption loses nothing, a second run adds nothing."""

import csv
import json
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from tests.inference.films import film, lateral, stored

from hilum.errors import DataError, FilmError, UsageError
from hilum.imaging.sandbox import Sandbox
from hilum.inference import predict as module
from hilum.inference.assess import Assessor
from hilum.inference.predict import NOT_FILMS, FilmFile, PredictSummary, find_films, predict_files
from hilum.inference.results import ResultsLog, write_parquet, write_refused, write_table


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three good films (one of them in a folder below, one a PNG), a lateral one, two bad files, and a table."""
    folder = tmp_path_factory.mktemp("films")
    (folder / "b").mkdir()
    (folder / "one.dcm").write_bytes(film(1))
    (folder / "b" / "two").write_bytes(film(2))
    Image.fromarray((stored(3) >> 4).astype("uint8")).save(folder / "three.png")
    (folder / "lateral.dcm").write_bytes(lateral(4))
    (folder / "cut.dcm").write_bytes(film(5)[:4000])
    (folder / "-text.dcm").write_text("no film at all")
    (folder / "labels.csv").write_text("path,label\n")
    return folder


@pytest.fixture(scope="module")
def done(
    films: Path, bundle_path: Path, sandbox: Sandbox, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, PredictSummary]:
    out = tmp_path_factory.mktemp("out") / "results"
    return out, predict_files(bundle_path, [films], out, threads=1, sandbox=sandbox)


def lines(out: Path) -> dict[str, dict[str, object]]:
    found = [json.loads(line) for line in (out / "results.jsonl").read_text().splitlines()]
    assert len({one["file"] for one in found}) == len(found)
    return {one["file"]: one for one in found}


def table(path: Path) -> list[dict[str, str]]:
    with open(path, newline="") as handle:
        return list(csv.DictReader(handle))


def test_good_films_are_answered_and_bad_ones_listed(done: tuple[Path, PredictSummary]) -> None:
    out, summary = done
    assert (summary.files, summary.refused, summary.already) == (6, 2, 0)
    assert (summary.answered, summary.abstained, summary.not_analysed) == (3, 0, 1)
    assert set(lines(out)) == {"one.dcm", "b/two", "three.png", "lateral.dcm"}
    assert lines(out)["lateral.dcm"]["outcome"] == "not-analysed"
    refused = {row["file"]: row for row in table(out / "refused.csv")}
    assert refused["cut.dcm"]["code"] == "truncated"
    assert refused["'-text.dcm"]["code"] == "not-an-image"  # the apostrophe keeps a spreadsheet from calculating
    assert all(row["reason"] for row in refused.values())


def test_answers_are_those_of_a_single_film(done: tuple[Path, object], films: Path, bundle_path: Path) -> None:
    from hilum.imaging.reading import read_film
    from hilum.inference.assess import open_bundle

    with open_bundle(bundle_path, 1) as opened:
        alone = opened.assess(read_film(films / "one.dcm")).to_json()
    answer = lines(done[0])["one.dcm"]
    assert answer["film_sha256"] == alone["film_sha256"]
    assert answer["probs"] == pytest.approx(alone["probs"], abs=1e-5)


def test_the_table_holds_what_the_lines_hold(done: tuple[Path, object]) -> None:
    rows = {row["file"]: row for row in table(done[0] / "results.csv")}
    assert set(rows) == set(lines(done[0]))
    for name, line in lines(done[0]).items():
        assert rows[name]["outcome"] == line["outcome"]
        probs = line["probs"]
        assert isinstance(probs, dict)
        assert rows[name]["prob.covid-19"] == str(probs.get("covid-19", ""))
        assert rows[name]["notice"] == "assistive, not for diagnosis"


def test_parquet_holds_the_same_with_types(done: tuple[Path, object]) -> None:
    from pyarrow import parquet

    rows = {row["file"]: row for row in parquet.read_table(done[0] / "results.parquet").to_pylist()}
    assert set(rows) == set(lines(done[0]))
    for name, line in lines(done[0]).items():
        row, probs, doubt = rows[name], line["probs"], line["uncertainty"]
        assert isinstance(probs, dict)
        assert isinstance(doubt, dict)
        assert row["prob.covid-19"] == probs.get("covid-19")
        assert row["mc_std.normal"] == doubt["mc_std"].get("normal")
        assert (row["positive"], row["reasons"]) == (line["positive"], line["reasons"])
        assert (row["outcome"], row["heatmap"], row["risk"]) == (line["outcome"], line["heatmap"], line["risk"])


def test_tables_are_written_piece_by_piece(done: tuple[Path, object], tmp_path: Path) -> None:
    """Seven rows in groups of three, of two bundles with different findings: nothing is lost between groups."""
    from pyarrow import parquet

    one = lines(done[0])["one.dcm"]
    other = {**one, "findings": ["tube"], "probs": {"tube": 0.25}, "positive": []}
    with ResultsLog(tmp_path) as log:
        log.append([{**(other if i == 5 else one), "file": f"{i}.dcm"} for i in range(7)])
        assert write_parquet(log, tmp_path / "r.parquet", group=3) == 7
        assert write_table(log, tmp_path / "r.csv") == 7
    rows = parquet.read_table(tmp_path / "r.parquet").to_pylist()
    assert (
        [row["file"] for row in rows]
        == [row["file"] for row in table(tmp_path / "r.csv")]
        == [f"{i}.dcm" for i in range(7)]
    )
    assert [row["prob.tube"] for row in rows] == [None] * 5 + [0.25, None]
    assert rows[5]["prob.normal"] is None
    assert parquet.ParquetFile(tmp_path / "r.parquet").num_row_groups == 3


def test_each_analysed_film_has_a_picture(done: tuple[Path, object]) -> None:
    for line in lines(done[0]).values():
        if line["outcome"] == "not-analysed":
            assert line["heatmap"] is None
        else:
            with Image.open(done[0] / str(line["heatmap"])) as picture:
                assert (picture.format, picture.mode) == ("JPEG", "RGB")
                assert max(picture.size) >= 213


def test_no_identifier_leaves_the_header(done: tuple[Path, object]) -> None:
    """Each film's patient id begins with SYN."""
    for path in done[0].rglob("*"):
        if path.suffix in (".jsonl", ".csv"):
            assert "SYN" not in path.read_text()


def test_a_second_run_answers_nothing_twice(
    done: tuple[Path, object], films: Path, bundle_path: Path, sandbox: Sandbox
) -> None:
    out = done[0]
    before = (out / "results.jsonl").read_bytes()
    again = predict_files(bundle_path, [films], out, threads=1, sandbox=sandbox)
    assert (again.already, again.answered, again.refused) == (4, 0, 2)
    assert (out / "results.jsonl").read_bytes() == before


def test_an_interrupted_run_goes_on_where_it_stopped(
    films: Path, bundle_path: Path, tmp_path: Path, sandbox: Sandbox
) -> None:
    """A line that was half-written is cut off, and its film answered again."""
    first = predict_files(bundle_path, [films / "one.dcm"], tmp_path, threads=1, sandbox=sandbox, heatmaps=False)
    assert first.answered == 1
    with open(tmp_path / "results.jsonl", "ab") as handle:
        handle.write(b'{"file": "three.png", "film_sha')
    second = predict_files(
        bundle_path, [films / "one.dcm", films / "three.png"], tmp_path, threads=1, sandbox=sandbox, heatmaps=False
    )
    assert (second.already, second.answered) == (1, 1)
    assert list(lines(tmp_path)) == ["one.dcm", "three.png"]
    assert lines(tmp_path)["one.dcm"]["heatmap"] is None


def test_killed_at_any_moment_every_film_ends_with_one_answer(
    bundle_path: Path, tmp_path: Path, sandbox: Sandbox
) -> None:
    source, out = tmp_path / "films", tmp_path / "out"
    source.mkdir()
    for i in range(20):
        (source / f"{i:02}.dcm").write_bytes(film(i))
    command = [sys.executable, "-m", "hilum", "predict", str(bundle_path), str(source), "--out", str(out), "-q"]
    process = subprocess.Popen([*command, "--workers", "1"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    log = out / "results.jsonl"
    until = time.monotonic() + 240
    while time.monotonic() < until and (not log.exists() or not log.stat().st_size) and process.poll() is None:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    kept = len(log.read_bytes().splitlines())
    assert kept >= 1
    summary = predict_files(bundle_path, [source], out, threads=1, sandbox=sandbox, heatmaps=False)
    assert summary.already + summary.answered == 20
    assert summary.already >= kept - 1
    assert sorted(lines(out)) == [f"{i:02}.dcm" for i in range(20)]


def test_a_changed_file_of_the_same_name_is_answered_again(bundle_path: Path, tmp_path: Path, sandbox: Sandbox) -> None:
    path, out = tmp_path / "a.dcm", tmp_path / "out"
    path.write_bytes(film(1))
    predict_files(bundle_path, [path], out, threads=1, sandbox=sandbox, heatmaps=False)
    path.write_bytes(film(2))
    summary = predict_files(bundle_path, [path], out, threads=1, sandbox=sandbox, heatmaps=False)
    assert (summary.already, summary.answered) == (0, 1)
    assert len((out / "results.jsonl").read_text().splitlines()) == 2


def test_a_site_can_refuse_what_is_unknown(films: Path, bundle_path: Path, tmp_path: Path, sandbox: Sandbox) -> None:
    strict = predict_files(bundle_path, [films / "three.png"], tmp_path, refuse_unknown=["view"], sandbox=sandbox)
    assert strict.not_analysed == 1
    assert "View position is not recorded." in lines(tmp_path)["three.png"]["reasons"]  # type: ignore[operator]


def test_a_missing_file_is_listed(bundle_path: Path, films: Path, tmp_path: Path, sandbox: Sandbox) -> None:
    summary = predict_files(bundle_path, [films / "none.dcm", films / "one.dcm"], tmp_path, threads=1, sandbox=sandbox)
    assert (summary.refused, summary.answered) == (1, 1)
    (row,) = table(tmp_path / "refused.csv")
    assert (row["code"], row["file"]) == ("not-found", "none.dcm")
    assert "is not there, or no plain file" in row["reason"]


def test_nothing_to_answer_is_said(bundle_path: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="No file to answer in .*Give films or folders of films"):
        predict_files(bundle_path, [tmp_path], tmp_path / "out")


def test_a_decoder_that_fails_in_an_unknown_way_costs_one_film(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from concurrent.futures import Future

    broken: Future[object] = Future()
    broken.set_exception(ZeroDivisionError("patient CANARY"))
    outcome = module._result(broken)  # type: ignore[arg-type]
    assert isinstance(outcome, FilmError)
    assert str(outcome) == "Reading failed in a way that was not foreseen (ZeroDivisionError)."
    other: Future[object] = Future()
    other.set_exception(DataError("No pixels."))
    outcome = module._result(other)  # type: ignore[arg-type]
    assert isinstance(outcome, FilmError)
    assert (str(outcome), outcome.code) == ("No pixels.", "unreadable")


def test_what_goes_wrong_while_writing_is_raised(
    bundle_path: Path, films: Path, tmp_path: Path, sandbox: Sandbox
) -> None:
    """Writing has a thread of its own; a full disk there must not pass for a finished run."""

    class Full(ResultsLog):
        def append(self, lines: object) -> None:
            raise OSError(28, "No space left on device")

    with pytest.MonkeyPatch.context() as patched, pytest.raises(OSError, match="No space left"):
        patched.setattr(module, "ResultsLog", Full)
        predict_files(bundle_path, [films / "one.dcm"], tmp_path, threads=1, sandbox=sandbox, heatmaps=False)


def test_few_batches_wait_to_be_written(assessor: Assessor, tmp_path: Path) -> None:
    """A slow disk holds inference back instead of filling the memory."""
    waiting: list[int] = []
    with ResultsLog(tmp_path) as log:
        write = log.append

        def slow(found: Sequence[Mapping[str, Any]]) -> None:
            time.sleep(0.02)
            write(found)

        log.append = slow  # type: ignore[method-assign]
        with module._Writer(assessor, log, tmp_path, None) as writer:
            prepared = assessor.prepare(film(1))
            for i in range(8):
                writer.answer([(FilmFile(name=f"{i}.dcm", path=tmp_path), prepared)])
                waiting.append(len(writer._unwritten))
    assert max(waiting) == module.UNWRITTEN
    assert [line["file"] for line in map(json.loads, (tmp_path / "results.jsonl").read_text().splitlines())] == [
        f"{i}.dcm" for i in range(8)
    ]


# --- finding files


def test_folders_are_searched_in_a_fixed_order_without_what_is_no_film(tmp_path: Path) -> None:
    for name in ("b/2.dcm", "a.PNG", "1.2.840.1", ".hidden/x.dcm", ".x.dcm", "DICOMDIR", "t.CSV", "out/r.png", "b/1"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    found = [one.name for one in find_films([tmp_path], leave_out=tmp_path / "out")]
    assert found == ["1.2.840.1", "a.PNG", "b/1", "b/2.dcm"]


def test_a_file_that_is_named_is_always_tried_and_only_once(tmp_path: Path) -> None:
    path = tmp_path / "film.csv"
    path.write_bytes(b"x")
    assert ".csv" in NOT_FILMS
    assert list(find_films([path, path])) == [FilmFile(name="film.csv", path=path)]


def test_films_of_one_name_in_several_folders_are_told_apart(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "x.dcm").write_bytes(b"")
    found = [one.name for one in find_films([tmp_path / "a", tmp_path / "b", tmp_path / "b" / "x.dcm"])]
    assert found == ["x.dcm", f"{(tmp_path / 'b' / 'x.dcm').as_posix()}"]


def test_a_path_that_is_another_films_name_is_told_apart_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    given = [Path("x"), Path("y"), Path("a")]
    for path in ("x/a/b.dcm", "y/b.dcm", "a/b.dcm"):
        Path(path).parent.mkdir(parents=True)
        Path(path).write_bytes(b"")
    assert [one.name for one in find_films(given)] == ["a/b.dcm", "b.dcm", f"{tmp_path}/a/b.dcm"]


def test_a_link_that_leads_back_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x.dcm").write_bytes(b"x")
    (tmp_path / "a" / "back").symlink_to(tmp_path, target_is_directory=True)
    assert [one.name for one in find_films([tmp_path])] == ["a/x.dcm"]


# --- the log


def test_a_whole_line_that_is_no_result_is_refused(tmp_path: Path) -> None:
    (tmp_path / "results.jsonl").write_text('{"a": 1}\n')
    with ResultsLog(tmp_path) as log, pytest.raises(DataError, match=r"Line 1 of .*results.jsonl is no result"):
        log.answered("0" * 64)


def test_answers_of_another_bundle_dont_count(tmp_path: Path) -> None:
    line = {"file": "a", "film_sha256": "1", "provenance": {"bundle_sha256": "x"}}
    with ResultsLog(tmp_path) as log:
        log.append([line])
        assert log.answered("x") == {("a", "1")}
        assert log.answered("y") == set()


def test_a_torn_line_longer_than_a_block_is_cut(tmp_path: Path) -> None:
    (tmp_path / "results.jsonl").write_bytes(b'{"x":1}\n' + b"y" * 200_000)
    with ResultsLog(tmp_path):
        pass
    assert (tmp_path / "results.jsonl").read_bytes() == b'{"x":1}\n'
    (tmp_path / "results.jsonl").write_bytes(b"y" * 200_000)
    with ResultsLog(tmp_path):
        pass
    assert (tmp_path / "results.jsonl").read_bytes() == b""


@pytest.mark.parametrize("name", ["=1+1", "+1", "-1", "@x", "\tx"])
def test_a_cell_that_a_spreadsheet_would_calculate_is_text(tmp_path: Path, name: str) -> None:
    write_refused(tmp_path / "r.csv", [(name, "empty", "The file is empty.")])
    assert table(tmp_path / "r.csv")[0]["file"] == "'" + name


def test_a_sandbox_child_can_prepare_a_film(films: Path, bundle_path: Path, sandbox: Sandbox) -> None:
    """What crosses back is a hilum dataclass with its tile, gate and facts."""
    from hilum.bundle.reading import read_bundle
    from hilum.inference.assess import prepare_film

    info = read_bundle(bundle_path).info
    there = sandbox.run(prepare_film, films / "one.dcm", info.preprocessing, info.gate)
    here = prepare_film(films / "one.dcm", info.preprocessing, info.gate)
    assert there.sha256 == here.sha256
    assert there.gate == here.gate
    assert there.facts == here.facts
    assert there.tile.tobytes() == here.tile.tobytes()


def test_two_writers_of_one_folder_are_kept_apart(tmp_path: Path) -> None:
    """A second predict on the same --out is refused while the first one writes."""
    with ResultsLog(tmp_path), pytest.raises(DataError, match=r"is being written by another hilum predict"):
        ResultsLog(tmp_path)
    with ResultsLog(tmp_path) as log:
        assert list(log.lines()) == []
