"""The study of chest-film backbones: honest about data and weights, and its sentences follow the numbers."""

from pathlib import Path
from typing import Any

import pytest

from hilum.errors import DataError
from hilum.studies import chest_xray
from hilum.studies.bench import Bench, Request
from hilum.studies.chest_xray_report import finding
from hilum.studies.running import run_request

TINY = chest_xray.Scale(patients=48, size=64, folds=2, head_epochs=3, block_epochs=1, phantom_rows=64, resamples=20)


@pytest.mark.long
def test_the_whole_study_on_phantoms_names_them_synthetic(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One backbone and one variant of each ablation; the rest is the same code."""
    for name in ("imbalances", "augmentations"):
        whole = getattr(chest_xray, name)
        monkeypatch.setattr(chest_xray, name, lambda *given, whole=whole: whole(*given)[-1:])
    request = Request(study="chest-xray", backbone="hilum_small")
    result = run_request(request, tmp_path / "out", cache=tmp_path / "cache", download=False, scale=TINY)
    assert result["first_line"].startswith("EMBEDDED data: ")
    assert "synthetic chest films" in result["first_line"]
    assert "hilum_small (weights: hilum)" in result["first_line"]
    rows = result["measured"]["rows"]
    assert [row["group"] for row in rows] == ["backbone", "imbalance", "augmentation"]
    values = [row["test"]["macro_auroc"]["value"] for row in rows]  # None where a finding has too few patients
    assert all(value is None or 0 <= value <= 1 for value in values)
    assert all(row["training_s"] > 0 for row in rows)
    assert rows[0]["external"]["films"] == result["measured"]["external_films"]
    assert "not for diagnosis" in (tmp_path / "out" / "report.html").read_text()


def test_a_backbone_without_weights_is_random_frozen_and_named_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = Bench(request=Request(study="chest-xray"), parts=tmp_path, cache=tmp_path, download=False)
    monkeypatch.setattr(chest_xray, "untrained", lambda bench, name, base, films: Path("random.safetensors"))
    variants = chest_xray.backbones(bench, chest_xray.recipe_of(TINY), None)
    assert [v.name for v in variants] == [
        *(f"{name} (random weights, frozen)" for name in chest_xray.BACKBONES),
        "hilum_small (weights: hilum)",
    ]
    assert [len(v.recipe.stages) for v in variants] == [1, 1, 1, 1, 2]
    assert len(bench.notes) == 1
    assert bench.notes[0].startswith("The published weights of mobilenet_v2, densenet121")


def test_data_that_are_no_chest_films_are_refused(tmp_path: Path) -> None:
    request = Request(study="chest-xray", data="flowers")
    bench = Bench(request=request, parts=tmp_path, cache=tmp_path, download=False)
    with pytest.raises(DataError, match=r"measures chest films, and 'flowers' is none of its sets\. Give --data-dir"):
        chest_xray.films(bench, TINY)


def row(group: str, name: str, auroc: float, width: float = 0.02) -> dict[str, Any]:
    value = {"value": auroc, "low": auroc - width, "high": auroc + width}
    card = {"macro_auroc": value, "sensitivity": {"a": value, "b": value}}
    return {
        "group": group,
        "name": name,
        "out_of_fold": card,
        "test": card,
        "verdict": "red",
        "headline": "One source.",
        "within_source": [],
    }


def test_the_finding_says_whether_the_intervals_part_the_encoders() -> None:
    others = [row("imbalance", "none", 0.8), row("augmentation", "none", 0.8)]
    close = [row("backbone", "one", 0.80), row("backbone", "two", 0.79)]
    apart = [row("backbone", "one", 0.90), row("backbone", "two", 0.70)]
    said = [finding({"rows": [*rows, *others], "best_backbone": "one"}) for rows in (close, apart)]
    assert "overlaps that of two, so these films can't tell them apart" in said[0]
    assert "No other encoder's interval there overlaps its own." in said[1]
    assert said[0].endswith("The verdict on the test is red: One source.")
