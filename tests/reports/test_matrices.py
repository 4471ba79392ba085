"""Heat maps and tables of marks: same bytes, words with extremes, gaps, wrong shapes."""

import math
from collections.abc import Callable
from functools import cache

import numpy as np
import pytest

from hilum.errors import DataError
from hilum.reports.canvas import Figure
from hilum.reports.figures import confusion_figure
from hilum.reports.matrices import heat_figure, marks_figure

pytest.importorskip("matplotlib")

TABLE = [[1e-4, 0.0, 2.5], [math.inf, 0.1, -3.0]]


@cache
def heat(scale: str = "log", **more: object) -> Figure:
    return heat_figure(
        TABLE, ["conv1", "conv2"], ["1", "2", "3"], name="h", title="Gradients", value_label="norm", scale=scale, **more
    )  # type: ignore[arg-type]


@cache
def marks() -> Figure:
    return marks_figure([[1, 0, 1], [0, 0, 0]], ["S0", "S1"], ["C0", "C1", "C2"], name="m", title="C3")


@pytest.mark.parametrize("draw", [heat, marks])
def test_a_table_is_drawn_the_same_every_time(draw: Callable[[], Figure]) -> None:
    first = draw()
    assert first == draw.__wrapped__()  # type: ignore[attr-defined]
    assert first.png.startswith(b"\x89PNG\r\n\x1a\n")


def test_a_heat_map_names_its_extremes_and_its_gaps() -> None:
    assert heat().alt == (
        "Gradients: 2 rows, 3 columns, norm; lowest 1.0×10⁻⁴ at conv1, 1; highest 2.5 at conv1, 3; "
        "3 cells without a value."
    )
    assert "lowest −3 at conv2, 3" in heat("signed").alt
    empty = heat_figure([[math.nan]], ["a"], ["b"], name="h", title="T", bar=False)
    assert empty.alt == "T: 1 rows, 1 columns; no values."


def test_a_table_of_marks_lists_them() -> None:
    assert marks().alt == "C3: 2 marks of 6; S0: C0, C2; S1: none."


def test_tables_of_another_shape_are_refused() -> None:
    with pytest.raises(
        DataError, match=r"A matrix with 1 row and 2 column labels is \[1, 2\] and not empty, but got \[2, 2\]"
    ):
        heat_figure([[1, 2], [3, 4]], ["a"], ["b", "c"], name="h", title="T")
    with pytest.raises(DataError, match=r"\[0, 0\] and not empty, but got \[0\]"):
        marks_figure([], [], [], name="m", title="T")
    with pytest.raises(DataError, match=r"A matrix of shape \[2, 2\] must be numbers in rows of one length"):
        heat_figure([[1, 2], [3]], ["a", "b"], ["c", "d"], name="h", title="T")
    with pytest.raises(DataError, match=r"Figure 'h' has texts of shape \(1, 1\) for a matrix of shape \(2, 3\)"):
        heat(texts=(("x",),))


def test_an_unknown_scale_lists_the_known_ones() -> None:
    with pytest.raises(DataError, match="'logs' is not a scale of heat_figure. Did you mean 'log'"):
        heat("logs")


def test_a_confusion_matrix_of_ten_labels_keeps_small_and_speaks_of_its_things() -> None:
    counts = np.diag(np.full(10, 90)) + 1
    made = confusion_figure(counts.tolist(), [f"digit {i}" for i in range(10)], what="images", answer_label="answer")
    assert "of 100 digit 9 images 91 answered right" in made.alt
    width, height = (int.from_bytes(made.png[i : i + 4]) / 144 for i in (16, 20))
    assert max(width, height) < 7.5
