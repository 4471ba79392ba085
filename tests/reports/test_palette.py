"""Colours can be told apart and read: on white, in grey, and by colour-blind eyes."""

from itertools import pairwise

import pytest

from hilum.reports import palette


def test_contrast_of_black_and_white_is_21() -> None:
    assert palette.contrast("#000000", "#ffffff") == pytest.approx(21)
    assert palette.contrast("#777777", "#777777") == 1


@pytest.mark.parametrize("name", list(palette.TONES))
def test_tones_are_legible_on_white_and_on_their_tint(name: str) -> None:
    assert palette.contrast(palette.TONES[name], palette.PAPER) >= 4.5
    assert palette.contrast(palette.TONES[name], palette.TINTS[name]) >= 4.5
    assert palette.contrast(palette.INK, palette.TINTS[name]) >= 7


def test_quiet_text_is_legible() -> None:
    assert palette.contrast(palette.QUIET, palette.PAPER) >= 4.5


def test_shades_fall_in_lightness() -> None:
    assert all(palette.luminance(a) > palette.luminance(b) for a, b in pairwise(palette.SHADES))


def test_findings_keep_their_colour_and_series_take_theirs_in_order() -> None:
    assert palette.colour_of("covid-19", 0) == palette.FINDINGS["covid-19"]
    assert palette.colour_of("x", 1) == palette.SERIES[1]
    assert palette.colour_of("x", len(palette.SERIES)) == palette.SERIES[0]
    assert len(palette.STYLES) == len(palette.MARKERS) == len(palette.SERIES)


def test_text_takes_the_colour_that_reads_best() -> None:
    assert palette.text_on("#ffffff") == palette.INK
    assert palette.text_on("#08306b") == palette.PAPER


def test_an_unknown_tone_lists_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"'amberr' is not a tone. Did you mean 'amber'\? Known: red, amber"):
        palette.tone("amberr")
    assert palette.tone("red") == palette.TONES["red"]


def test_ordered_colours_fall_in_lightness_and_all_can_be_seen_on_paper() -> None:
    for count in (1, 2, 5, 9):
        colours = palette.ordered(count)
        assert len(set(colours)) == count
        assert all(palette.contrast(colour, palette.PAPER) >= 3 for colour in colours)
        assert all(palette.luminance(a) > palette.luminance(b) for a, b in pairwise(colours))
    assert (palette.ordered(2)[0], palette.ordered(2)[1]) == (palette.STEPS[0], palette.STEPS[-1])


def test_the_diverging_scale_is_lightest_in_its_middle_and_its_ends_differ_in_hue() -> None:
    light = [palette.luminance(colour) for colour in palette.DIVERGING]
    middle = len(light) // 2
    assert light[: middle + 1] == sorted(light[: middle + 1])
    assert light[middle:] == sorted(light[middle:], reverse=True)
    assert palette.DIVERGING[middle] == "#f7f7f7"
