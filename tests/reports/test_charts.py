"""Bars and scatters: same bytes, words with numbers, what can't be drawn says so."""

import math
from collections.abc import Callable
from functools import cache

import pytest

from hilum.errors import DataError
from hilum.reports.canvas import Figure
from hilum.reports.charts import HATCHES, Bar, Point, _round_down, bars_figure, scatter_figure
from hilum.reports.palette import SERIES

pytest.importorskip("matplotlib")


@cache
def bars() -> Figure:
    rows = [
        Bar(label="ReLU", series="on", value=99.05, low=98.9, high=99.2),
        Bar(label="ReLU", series="off", value=97.5),
        Bar(label="tanh", series="on", value=math.nan),
    ]
    return bars_figure(
        rows, name="b", title="Ablation", x_label="accuracy (%)", reference=10, reference_label="chance", digits=4
    )


@cache
def scatter() -> Figure:
    points = [
        Point(label="VGG16", x=15.47, y=71.6, size=138.4),
        Point(label="AlexNet", x=0.714, y=56.5, y_low=56.0, y_high=57.0, size=61.1),
        Point(label="none", x=0.0, y=1.0),
    ]
    return scatter_figure(
        points, name="s", title="Cost", x_label="GMACs", y_label="top-1 (%)", log_x=True, size_label="M parameters"
    )


@pytest.mark.parametrize("draw", [bars, scatter])
def test_a_chart_is_the_same_every_time(draw: Callable[[], Figure]) -> None:
    first = draw()
    assert first == draw.__wrapped__()  # type: ignore[attr-defined]
    assert first.png.startswith(b"\x89PNG\r\n\x1a\n")
    assert len(first.svg) < 100_000


def test_charts_say_their_numbers_and_what_is_missing() -> None:
    assert bars().alt == "Ablation: ReLU on 99.05 (98.90–99.20); ReLU off 97.50; tanh on no value."
    assert scatter().alt == (
        "Cost: VGG16 GMACs 15.5, top-1 (%) 71.6, M parameters 138; "
        "AlexNet GMACs 0.714, top-1 (%) 56.5 (56–57), M parameters 61.1; not drawn: none."
    )


@pytest.mark.parametrize(
    ("values", "written"),
    [
        ((0.9, 0.95), "0.90; 0.95"),
        ((0.9, 0.5), "0.9; 0.5"),
        ((3, 12, 0), "3; 12; 0"),
        ((125.3, 0.845), "125.3; 0.8"),
        ((-0.25, 1.5, 0.0004), "−0.25; 1.5; 4.0×10⁻⁴"),  # too far apart: each by itself
        ((-0.25, 1.5), "−0.25; 1.50"),
        ((1234.5, 99.0), "1,234; 99"),
        ((5e6, 4.25e6), "5 million; 4.25 million"),
    ],
)
def test_bars_of_one_chart_have_as_many_decimals(values: tuple[float, ...], written: str) -> None:
    rows = [Bar(label="", value=value) for value in values]
    assert bars_figure(rows, name="b", title="T", x_label="x").alt == f"T: {written}."


def test_rows_of_a_chart_can_be_named() -> None:
    rows = [Bar(label="0", value=1.0)]
    drawn = [bars_figure(rows, name="b", title="T", x_label="x", y_label=name).svg for name in ("", "digit")]
    assert drawn[0] != drawn[1]


def test_charts_of_nothing_say_so() -> None:
    assert bars_figure([], name="b", title="T", x_label="x").alt == "T: nothing to draw."
    assert scatter_figure([], name="s", title="T", x_label="x", y_label="y").alt == "T: nothing to draw."


def test_bars_on_a_logarithmic_axis_are_dots_with_their_notes() -> None:
    made = bars_figure([Bar(label="a", value=5e6, note="five")], name="b", title="T", x_label="parameters", log_x=True)
    assert made.alt == "T: a five."


def test_a_bar_that_a_logarithmic_axis_cannot_show_is_refused() -> None:
    with pytest.raises(DataError, match="Bar 'a' of figure 'b' is 0, which a logarithmic axis can't show"):
        bars_figure([Bar(label="a", value=0)], name="b", title="T", x_label="x", log_x=True)


def test_every_colour_has_a_filling_of_its_own() -> None:
    assert len(set(HATCHES)) == len(SERIES)


def test_sizes_in_the_legend_are_round() -> None:
    assert [_round_down(v) for v in (138.4, 55.0, 7.0, 0.25, 1.0)] == [100, 50, 5, 0.2, 1.0]
