"""The verbs: exit codes, one summary, and the same as one JSON line."""

import json
from pathlib import Path

import pytest
from tests.bundle.small import reference_for, small_graph, small_info
from tests.inference.films import film
from typer.testing import CliRunner

from hilum.bundle.reading import read_bundle
from hilum.bundle.reference import ReferenceAnswers
from hilum.bundle.writing import write_bundle
from hilum.cli.verbs import app
from hilum.errors import BundleError


def hilum(*arguments: str, code: int = 0) -> str:
    result = CliRunner().invoke(app, list(arguments), catch_exceptions=False)
    assert result.exit_code == code, result.output
    return result.stdout


def last_json(text: str) -> dict[str, object]:
    found: dict[str, object] = json.loads(text.splitlines()[-1])
    return found


def test_verify_says_verified(bundle_path: Path) -> None:
    assert "is whole, unchanged, and answers as it should" in hilum("bundle", "verify", str(bundle_path))
    summary = last_json(hilum("bundle", "verify", str(bundle_path), "--json"))
    assert summary["verified"] is True
    assert summary["sha256"] == read_bundle(bundle_path).sha256


def test_verify_refuses_a_bundle_that_answers_otherwise(tmp_path: Path) -> None:
    good = reference_for(small_graph())
    outputs = {**good.outputs, "logits": good.outputs["logits"] + 1}
    path = write_bundle(
        tmp_path / "b.hilum",
        info=small_info(),
        model_onnx=small_graph(),
        reference=ReferenceAnswers(tiles=good.tiles, outputs=outputs),
        card_markdown="",
    )
    with pytest.raises(BundleError, match="is unchanged, but logits differs by .* on this machine"):
        hilum("bundle", "verify", str(path))


def test_show_names_findings_thresholds_and_members(bundle_path: Path) -> None:
    text = hilum("bundle", "show", str(bundle_path))
    for word in ("normal, pneumonia, covid-19", "pneumonia 0.300", "model.onnx", "assistive, not for diagnosis"):
        assert word in text
    summary = last_json(hilum("bundle", "show", str(bundle_path), "--json"))
    assert summary["findings"] == ["normal", "pneumonia", "covid-19"]
    assert summary["drift_films"] == 40


def test_show_prints_the_card(bundle_path: Path) -> None:
    assert hilum("bundle", "show", str(bundle_path), "--card") == "# Model card: small\n"


def test_predict_prints_counts_and_the_path(bundle_path: Path, tmp_path: Path) -> None:
    (tmp_path / "a.dcm").write_bytes(film(1))
    (tmp_path / "b.dcm").write_bytes(b"")
    out = tmp_path / "out"
    arguments = ["predict", str(bundle_path), str(tmp_path), "--out", str(out), "--workers", "1", "-q"]
    summary = last_json(hilum(*arguments, "--json"))
    assert (summary["answered"], summary["refused"], summary["path"]) == (1, 1, str(out))
    text = hilum(*arguments)
    assert "1 refused, 1 answered before" in text
    assert f"results: {out} (assistive, not for diagnosis)" in text
    assert "refused.csv" in text


def test_predict_fails_when_not_one_file_could_be_read(bundle_path: Path, tmp_path: Path) -> None:
    """A pipeline that fed the wrong folder must hear of it; a summary is printed all the same."""
    (tmp_path / "films").mkdir()
    for name in ("a.dcm", "b.dcm"):
        (tmp_path / "films" / name).write_bytes(b"no film")
    arguments = ["predict", str(bundle_path), str(tmp_path / "films"), "--out", str(tmp_path / "out"), "-q"]
    result = CliRunner().invoke(app, [*arguments, "--workers", "1", "--json"], catch_exceptions=False)
    assert result.exit_code == 1
    assert "2 files and not one that could be read" in result.stderr
    assert last_json(result.stdout)["refused"] == 2


def test_doctor_ends_with_counts_and_fails_when_something_is_to_be_mended(bundle_path: Path, tmp_path: Path) -> None:
    record = str(tmp_path / "runtime.json")
    text = hilum("doctor", "--bundle", str(bundle_path), "--folder", str(tmp_path), "--record", record)
    assert text.splitlines()[-1].endswith("0 to mend")
    (tmp_path / "b.hilum").write_bytes(b"x")
    summary = last_json(hilum("doctor", "--bundle", str(tmp_path / "b.hilum"), "--json", code=1))
    assert summary["mend"] == 1
