"""Curves of a member: what is drawn, in words, and the files."""

from pathlib import Path

from hilum.runs.curves import training_figure, write_curves
from hilum.runs.layout import RunFolder


def rows(watched: bool = True) -> list[dict[str, object]]:
    """Two stages of two epochs; the third epoch is the best of the last stage."""
    told = [("head", 1, 1.0, True), ("head", 2, 0.8, True), ("block", 1, 0.5, True), ("block", 2, 0.6, False)]
    return [
        {
            "stage": stage,
            "epoch": epoch,
            "loss": loss / 2,
            "accuracy": 1 - loss / 2,
            "watch_loss": loss if watched else None,
            "watch_accuracy": 1 - loss if watched else None,
            "best": best and watched,
            "lr": 1e-3,
        }
        for stage, epoch, loss, best in told
    ]


def test_the_figure_names_stages_and_the_kept_epoch() -> None:
    told = training_figure(rows(), name="fold0", title="A run").alt
    assert "loss, watched films from 1 at 1 to 0.6 at 4, lowest 0.5 at 3" in told
    assert "loss, block at 2.5" in told
    assert "loss, kept at 3" in told
    assert "accuracy, fitted films from 50 at 1 to 70 at 4, highest 75 at 3" in told


def test_without_watched_films_only_fitted_ones_are_drawn() -> None:
    told = training_figure(rows(watched=False), name="fold0", title="A run").alt
    assert "watched" not in told
    assert "kept" not in told


def test_files_are_png_and_svg(tmp_path: Path) -> None:
    paths = write_curves(RunFolder(tmp_path / "run"), 1, rows())
    assert [path.name for path in paths] == ["fold1.png", "fold1.svg"]
    assert paths[0].read_bytes().startswith(b"\x89PNG")
    assert "<svg" in paths[1].read_text()
    assert write_curves(RunFolder(tmp_path / "other"), 0, []) == []
