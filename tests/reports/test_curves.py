"""Curves: same numbers, same bytes; words with the main numbers; gaps stay gaps; labels keep apart."""

import math
import re
import xml.etree.ElementTree as ET
from functools import cache

import numpy as np
import pytest

from hilum.errors import DataError
from hilum.reports import palette
from hilum.reports.canvas import Figure
from hilum.reports.curves import Note, Panel, Reference, Series, _looks, curves_figure

pytest.importorskip("matplotlib")


def panel(*series: Series, **more: object) -> Panel:
    return Panel(series=series, x_label="epoch", y_label="accuracy (%)", **more)  # type: ignore[arg-type]


def series(label: str = "test", y: object = (50.0, 90.0, 80.0), **more: object) -> Series:
    return Series(label=label, x=range(1, 4), y=y, **more)  # type: ignore[arg-type]


@cache
def whole() -> Figure:
    first = panel(
        series("training", name="net"),
        series("validation", y=[40, 70, 60], low=[39, 68, 57], high=[41, 72, math.nan], name="net", style="dashed"),
        title="Accuracy",
        references=[
            Reference(value=10, label="chance"),
            Reference(value=2, label="over-fits", axis="x"),
            Reference(value=5, until=15, label="rule of thumb"),
        ],
        notes=[Note(x=2, y=70, text="best")],
    )
    return curves_figure([first, panel(series("other"), log_x=True)], name="c", title="Training", legend="ends")


def test_curves_are_png_and_svg_and_the_same_every_time() -> None:
    first = whole()
    assert first == whole.__wrapped__()
    assert first.png.startswith(b"\x89PNG\r\n\x1a\n")
    assert ET.fromstring(first.svg).tag.endswith("svg")


def test_the_words_hold_ends_extremes_intervals_references_and_notes() -> None:
    alt = whole().alt
    assert alt.startswith("Training: Accuracy, training from 50 at 1 to 80 at 3, highest 90 at 2; ")
    assert "validation from 40 (39–41) at 1 to 60 at 3, highest 70 at 2" in alt
    assert "chance at 10; Accuracy, over-fits at 2; Accuracy, rule of thumb at 5 to 15; Accuracy, best at 2" in alt


def test_a_broken_or_empty_series_is_drawn_as_far_as_it_goes_and_says_so() -> None:
    lost = [1.0, math.nan, math.inf]
    alt = curves_figure([panel(series(y=lost), series("none", y=[math.nan] * 3))], name="n", title="T").alt
    assert alt == "T: accuracy (%), test 1 at 1, 2 of 3 not drawn; accuracy (%), none: nothing to draw."
    assert curves_figure([panel()], name="n", title="T").alt == "T: accuracy (%), nothing to draw."


def test_a_logarithmic_axis_leaves_zeros_out_and_counts_them() -> None:
    figure = curves_figure([panel(series(y=[0.0, 1e-6, 1e3]), log_y=True)], name="n", title="T")
    assert "from 1.00×10⁻⁶ at 2 to 1,000 at 3, 1 of 3 not drawn" in figure.alt


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (
            series(y=[1, 2]),
            r"Series 'test' of panel 'accuracy \(%\)': y has 2 values where 3 are needed: one for each x",
        ),
        (series(low=[1, 2, 3]), r"has only one of low and high: give both bounds, or neither"),
        (series(low=[1, 2], high=[1, 2]), r"low has 2 values where 3 are needed"),
        (series(y=[[1, 2, 3]]), r"y must be one row of numbers, but got the shape \(1, 3\)"),
        (series(y=["a", "b", "c"]), r"y must be numbers, but got \['a', 'b', 'c'\]"),
    ],
)
def test_a_series_of_another_shape_is_refused(wrong: Series, message: str) -> None:
    with pytest.raises(DataError, match=message):
        curves_figure([panel(wrong)], name="n", title="T")


def test_a_figure_without_panels_is_refused() -> None:
    with pytest.raises(DataError, match="Figure 'n' has no panels: give at least one"):
        curves_figure([], name="n", title="T")


def test_a_name_keeps_its_colour_and_looks_stay_apart() -> None:
    looks = _looks([series("a", name="x"), series("b", name="x"), series("c")], ordered=False)
    (a, b, c) = looks.values()
    assert a["color"] == b["color"] != c["color"]
    assert (a["linestyle"], a["markerfacecolor"]) != (b["linestyle"], b["markerfacecolor"])


def test_ordered_series_run_from_light_to_dark() -> None:
    looks = _looks([series(str(i)) for i in range(6)], ordered=True)
    lightness = [palette.luminance(look["color"]) for look in looks.values()]
    assert lightness == sorted(lightness, reverse=True)


def test_many_points_stay_small_and_numpy_is_taken_as_it_is() -> None:
    x = np.arange(2000)
    figure = curves_figure([panel(Series(label="a", x=x, y=np.sqrt(x)))], name="n", title="T")
    assert len(figure.svg) < 150_000
    assert not re.search(rb"<image", figure.svg)
