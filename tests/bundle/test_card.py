"""The model card: every part is there, what is unknown says so, and no value can break out of its place."""

import re

from hilum.bundle.card import NOT_STATED, NOTICE, DataSet, Measured, ModelCard, render_card

PARTS = (
    "Summary",
    "Intended use",
    "Not intended for",
    "Data",
    "Performance",
    "Operating points",
    "Calibration",
    "When it gives no label",
    "Heat maps",
    "Limits",
    "Not validated on",
    "Maintenance",
    "Provenance",
)


def section(text: str, title: str) -> str:
    return text.split(f"## {title}\n\n")[1].split("\n\n## ")[0]


def test_an_empty_card_has_every_part_and_states_nothing() -> None:
    text = render_card(ModelCard(name="chest", version="1.0"))
    assert tuple(re.findall(r"^## (.*)$", text, re.M)) == PARTS
    assert all(NOT_STATED in section(text, part) for part in PARTS)
    assert NOTICE in text
    assert text.startswith("# Model card: chest 1.0\n")


def test_a_number_stands_with_its_interval_and_without_one_says_so() -> None:
    numbers = (
        Measured(what="AUROC", finding="covid-19", on="external", value=0.8123, low=0.75, high=0.86, n=120),
        Measured(what="AUROC", finding="normal", on="external", value=0.9),
        Measured(what="AUROC", finding="pneumonia", on="external", value=None, reason="no film shows it"),
    )
    rows = section(render_card(ModelCard(name="a", version="1", performance=numbers)), "Performance").splitlines()
    assert rows[2] == "| external | AUROC | covid-19 | 0.812 (0.750 – 0.860) | 120 |  |"
    assert rows[3] == f"| external | AUROC | normal | 0.900 (interval {NOT_STATED}) | {NOT_STATED} |  |"
    assert rows[4] == f"| external | AUROC | pneumonia | {NOT_STATED} | {NOT_STATED} | no film shows it |"


def test_data_warnings_and_limits_are_shown() -> None:
    card = ModelCard(
        name="a",
        version="1",
        warnings=("covid-19 comes from one source",),
        data=(DataSet(name="training", films=1200, labels={"normal": 700}, fingerprint="ab" * 32, note="synthetic"),),
        limits=("Adults only",),
        not_validated_on=("children", "lateral films"),
        operating_points={"covid-19": 0.25},
        provenance={"commit": "abc", "machine": None},
    )
    text = render_card(card)
    assert text.index("> **Warning.** covid-19 comes from one source") < text.index("## Summary")
    assert f"| training | 1,200 | {NOT_STATED} | normal 700 | {NOT_STATED} | `abababababab` | synthetic |" in text
    assert "- children\n- lateral films" in text
    assert "| covid-19 | 0.250 |" in text
    assert section(text, "Provenance") == f"- commit: abc\n- machine: {NOT_STATED}\n"


def test_values_cannot_break_out_of_their_place() -> None:
    evil = "x | y\n# Heading <script>alert(1)</script> `code` *bold* [a](b)"
    text = render_card(ModelCard(name="a", version="1", intended_use=evil, data=(DataSet(name=evil),)))
    assert "<script>" not in text
    assert "\n# Heading" not in text
    assert section(text, "Intended use").startswith(r"x \| y \# Heading &lt;script&gt;")
    row = section(text, "Data").splitlines()[2]
    assert len(re.findall(r"(?<!\\)\|", row)) == 8
