"""Figures are PNG and SVG, the same bytes every time, say what they show in words, and leave matplotlib as it was."""

import math
import sys
import xml.etree.ElementTree as ET

import pytest

from hilum.errors import DataError, MissingExtra
from hilum.reports.figures import (
    CalibrationPoint,
    Curve,
    Figure,
    Interval,
    confusion_figure,
    forest_figure,
    lines_figure,
    reliability_figure,
    roc_figure,
)

matplotlib = pytest.importorskip("matplotlib")

POINT = CalibrationPoint(confidence=0.3, frequency=0.4, low=0.2, high=0.6)


def roc() -> Figure:
    return roc_figure(
        [Curve(label="covid-19 0.90", name="covid-19", x=[0, 0.2, 1], y=[0, 0.8, 1]), Curve(label="none", x=[], y=[])]
    )


def confusion() -> Figure:
    return confusion_figure([[5, 1], [0, 0]], ["normal", "covid-19"])


def reliability() -> Figure:
    return reliability_figure(
        [("normal", {"before": [POINT], "after": [POINT, POINT]}), ("covid-19", {"before": [], "after": []})]
    )


def forest() -> Figure:
    rows = [
        Interval(label="one", value=0.8, low=0.7, high=0.9, series="a", note="0.80 (0.70–0.90)"),
        Interval(label="two", value=0.6, low=math.nan, high=math.nan, series="b"),
        Interval(label="three", value=math.nan, low=math.nan, high=math.nan, series="b", note="not estimable"),
    ]
    return forest_figure(rows, name="forest", title="Forest", xlabel="AUROC", reference=0.5, reference_label="chance")


def lines() -> Figure:
    panels = [
        ("loss", [Curve(label="fitted", x=[1, 2, 3], y=[3, 2, 1]), Curve(label="watched", x=[1, 2, 3], y=[3, 2.5, 2])])
    ]
    return lines_figure(panels, name="lines", title="Training", xlabel="epoch", markers=[(1.5, "head")])


ALL = {"roc": roc, "confusion": confusion, "reliability": reliability, "forest": forest, "lines": lines}


@pytest.mark.parametrize("draw", ALL.values(), ids=ALL.keys())
def test_a_figure_is_png_and_svg_without_a_date_and_the_same_every_time(draw: object) -> None:
    first, again = draw(), draw()  # type: ignore[operator]
    assert first == again
    assert first.png.startswith(b"\x89PNG\r\n\x1a\n")
    assert ET.fromstring(first.svg).tag.endswith("svg")
    for mark in (b"<dc:date>", b"matplotlib.org", b"Software"):
        assert mark not in first.svg
        assert mark not in first.png


def test_figures_say_in_words_what_they_show() -> None:
    assert roc().alt == "ROC curves: covid-19 0.90."
    assert "of 6 normal films 5 answered right" in confusion().alt
    assert "normal after, largest distance from the diagonal 0.10" in reliability().alt
    assert "one 0.80 (0.70–0.90); two 0.6; three not estimable" in forest().alt
    assert "loss, fitted from 3 to 1" in lines().alt


def test_what_cannot_be_drawn_says_so() -> None:
    assert roc_figure([]).alt == "ROC curves: nothing could be drawn."
    assert reliability_figure([("x", {})]).alt == "Reliability: nothing could be drawn."
    assert lines_figure([("loss", [])], name="n", title="T", xlabel="x").alt == "T: nothing to draw."


def test_drawing_leaves_the_settings_and_pyplot_alone() -> None:
    before, pyplot = dict(matplotlib.rcParams), sys.modules.pop("matplotlib.pyplot", None)
    roc()
    assert dict(matplotlib.rcParams) == before
    assert "matplotlib.pyplot" not in sys.modules
    if pyplot:
        sys.modules["matplotlib.pyplot"] = pyplot


def test_a_confusion_matrix_of_another_shape_is_refused() -> None:
    with pytest.raises(DataError, match=r"A confusion matrix of 3 labels is \[3, 3\], but got \(2, 2\)"):
        confusion_figure([[1, 0], [0, 1]], ["a", "b", "c"])


def test_without_matplotlib_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingExtra, match="Drawing figures needs the 'train' extra"):
        roc_figure([])
