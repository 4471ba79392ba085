"""The model card: every field of CHAI's is there, what is unknown says so, and both forms say the same."""

import html
import re
from pathlib import Path

import pytest
from tests.bundle.small import small_bundle
from typer.testing import CliRunner

from hilum.bundle.card import (
    CARD_JSON_MEMBER,
    NOTICE,
    DataSet,
    KeyMetric,
    Measured,
    ModelCard,
    Stated,
    card_of,
    read_card,
    read_stated,
)
from hilum.bundle.card_sections import card_sections
from hilum.bundle.card_text import render_card, render_card_page
from hilum.bundle.reading import read_bundle
from hilum.cli.verbs import app
from hilum.errors import BundleError, ConfigError, UsageError
from hilum.reports.page import Block, Bullets, Facts, Paragraph
from hilum.reports.tables import Table

UNKNOWN = "*not stated*"

CHAI = (
    *("Name", "Developer", "Inquiries or to report an issue", "Release stage", "Release date", "Version"),
    *("Global availability", "Regulatory approval", "Summary", "Keywords", "Intended use", "Workflow"),
    *("Primary intended users", "How to use", "Targeted patient population"),
    *("Cautioned out-of-scope settings and use cases", "Known risks and limitations", "Known biases"),
    *("Ethical considerations", "Clinical risk level", "Outcome(s) and output(s)", "Model type"),
    *("Foundation models used in application", "Input data source and output/input data types"),
    *("Bias mitigation approaches", "Ongoing maintenance", "Security and compliance practices or accreditations"),
    *("Transparency, intelligibility and accountability", "Funding source of the technical implementation"),
    *("Third-party information", "Stakeholders consulted during design", "Goal of metric", "Result"),
    *("Interpretation", "Test type", "Testing data description", "Validation process and justification"),
    *("Evaluation references", "Clinical trial", "Peer-reviewed publications", "Reimbursement status"),
    "Patient consent or disclosure",
)
"""Fields of the CHAI Applied Model Card, by the names that the card gives them."""

PARTS = ("Development data characterisation", "Bibliography", "Provenance")
"""Fields of it that are sections here."""


def section(text: str, title: str) -> str:
    return text.split(f"## {title}\n\n")[1].split("\n\n## ")[0]


def words(page: str) -> str:
    return re.sub(r"\s+", " ", html.unescape(re.sub(r"<[^>]+>", " ", page.split("<body>")[1])))


def test_an_empty_card_has_every_field_and_states_nothing() -> None:
    text = render_card(ModelCard(name="chest", version="1.0"))
    for name in set(CHAI) - {"Name", "Version"}:
        assert f"- {name}: {UNKNOWN}\n" in text + "\n", name
    assert text.count(f"- Goal of metric: {UNKNOWN}") == 3
    for part in PARTS:
        assert section(text, part).strip() == UNKNOWN
    assert NOTICE in text
    assert text.startswith("# Model card: chest 1.0\n")


def test_the_page_says_the_same_as_the_text_and_fetches_nothing() -> None:
    card = ModelCard(
        name="chest",
        version="1.0",
        findings=("normal", "covid-19"),
        stated=Stated(developer="A hospital", keywords=("chest", "x-ray"), bibliography=("One. Two.",)),
        limits=("Few films.",),
        data=(DataSet(name="training", films=1200, sources={"a": 1200}),),
        safety=KeyMetric(goal="That it is safe.", results=(Measured(what="ECE", finding="all", on="t", value=0.04),)),
        operating_points={"covid-19": 0.25},
        warnings=("covid-19 comes from one source",),
    )
    page = render_card_page(card, digest="f" * 64, signer="abc")
    shown, said = words(page), " ".join(html.unescape(render_card(card)).replace("\\", "").replace("*", "").split())
    texts = [text for one in card_sections(card) for text in (one.title, *(t for b in one.blocks for t in inside(b)))]
    assert {"A hospital", "chest, x-ray", "One. Two.", "Few films.", "1,200", "a 1,200", "0.250"} <= set(texts)
    for text in (*texts, *card.warnings):
        assert text in shown, text
        assert text in said, text
    assert f"bundle {'f' * 64}, signed by key abc" in shown
    assert not re.search(r"(src|href)=\"(?!data:|#)", page)


def inside(block: Block) -> list[str]:
    """Every text of a block."""
    if isinstance(block, Facts):
        return [text for pair in block.items for text in pair]
    if isinstance(block, Bullets):
        return list(block.items)
    if isinstance(block, Table):
        rows = [part for row in block.rows for cell in row for part in (cell.text, cell.detail, cell.reason)]
        return [block.caption, *(column.title for column in block.columns), *rows]
    assert isinstance(block, Paragraph)
    return [block.text]


def test_what_people_state_stands_beside_what_artefacts_say(tmp_path: Path) -> None:
    path = tmp_path / "card.toml"
    path.write_text('developer = "A hospital"\nkeywords = ["chest", "x-ray"]\n')
    stated = read_stated(path)
    assert stated == Stated(developer="A hospital", keywords=("chest", "x-ray"))
    text = render_card(ModelCard(name="a", version="1", stated=stated))
    assert "- Developer: A hospital\n" in text
    assert "- Keywords: chest, x-ray\n" in text
    path.write_text('develper = "A hospital"\nfunding = 3\n')
    with pytest.raises(ConfigError, match=r"unknown key 'develper'\. Did you mean 'developer'(.|\n)*funding is 3"):
        read_stated(path)
    path.write_text("developer = A hospital")
    with pytest.raises(UsageError, match=r"card.toml can't be read as TOML"):
        read_stated(path)


def test_a_number_stands_with_its_interval_and_without_one_says_so() -> None:
    numbers = (
        Measured(what="AUROC", finding="covid-19", on="external", value=0.8123, low=0.75, high=0.86, n=120),
        Measured(what="AUROC", finding="normal", on="external", value=0.9),
        Measured(what="AUROC", finding="pneumonia", on="external", value=None, reason="no film shows it"),
        Measured(what="accuracy", finding="all", on="external", value=None),
    )
    card = ModelCard(name="a", version="1", usefulness=KeyMetric(results=numbers))
    rows = section(render_card(card), "Key metrics: usefulness, usability and efficacy").splitlines()[-4:]
    assert rows[0] == "| on | measure | covid-19 | normal | pneumonia | all |"
    assert rows[2] == (
        f"| external | AUROC | 0.812 (0.750 – 0.860), n = 120 | 0.900 (interval {UNKNOWN}) "
        "| not estimable, no film shows it | – |"
    )
    assert rows[3] == f"| external | accuracy | – | – | – | {UNKNOWN} |"


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
    assert text.index("> **Warning.** covid-19 comes from one source") < text.index("## Identity")
    assert f"| training | 1,200 | {UNKNOWN} | normal 700 | {UNKNOWN} | abababababab | synthetic |" in text
    assert "Not validated on:\n\n- children\n- lateral films" in text
    assert "| covid-19 | 0.250 |" in text
    assert section(text, "Provenance") == f"- commit: abc\n- machine: {UNKNOWN}\n"
    assert 'class="notice tone-red"' in render_card_page(card)


def test_values_cannot_break_out_of_their_place() -> None:
    evil = "x | y\n# Heading <script>alert(1)</script> `code` *bold* [a](b)"
    card = ModelCard(name="a", version="1", intended_use=evil, data=(DataSet(name=evil),))
    text = render_card(card)
    assert "<script>" not in text
    assert "\n# Heading" not in text
    assert r"- Intended use: x \| y \# Heading &lt;script&gt;" in text
    row = section(text, "Development data characterisation").splitlines()[4]
    assert len(re.findall(r"(?<!\\)\|", row)) == 8
    assert "<script>" not in render_card_page(card)


def test_sections_have_names_of_their_own() -> None:
    names = [one.name for one in card_sections(ModelCard(name="a", version="1"))]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch(r"[a-z-]+", name) for name in names)


def test_a_card_is_read_back_as_it_was_written_and_another_file_is_none() -> None:
    card = ModelCard(
        name="a",
        version="1",
        findings=("normal",),
        data=(DataSet(name="t", labels={"normal": 3}),),
        fairness=KeyMetric(results=(Measured(what="AUROC", finding="normal", on="t", value=0.5, low=0.4, high=0.6),)),
        stated=Stated(keywords=("a", "b")),
        provenance={"hilum": "0.1", "none": None},
    )
    assert read_card(card.to_bytes(), "model_card.json") == card
    with pytest.raises(BundleError, match="model_card.json is no model card: .*'version' is missing"):
        read_card(b'{"name": "a"}', "model_card.json")


def test_the_verb_writes_the_page_from_the_bundle_alone(tmp_path: Path) -> None:
    card = ModelCard(name="small", version="1.0", stated=Stated(developer="A hospital"))
    path = small_bundle(tmp_path / "a.hilum", files={CARD_JSON_MEMBER: card.to_bytes()})
    out = tmp_path / "card.html"
    done = CliRunner().invoke(app, ["bundle", "card", str(path), "--html", "--out", str(out)], catch_exceptions=False)
    assert done.stdout == f"model card: {out}\n"
    assert out.read_text() == render_card_page(card, digest=read_bundle(path).sha256)
    printed = CliRunner().invoke(app, ["bundle", "card", str(path)], catch_exceptions=False)
    assert printed.stdout == "# Model card: small\n"


def test_a_bundle_of_an_older_version_has_the_card_that_bundle_json_knows(tmp_path: Path) -> None:
    path = small_bundle(tmp_path / "a.hilum")
    done = CliRunner().invoke(app, ["bundle", "card", str(path), "--html"], catch_exceptions=False)
    opened = read_bundle(path)
    expected = render_card_page(card_of(opened.info), digest=opened.sha256)
    assert words(done.stdout) == words(expected)
    assert "Tests only." in done.stdout
    assert "positive from" in done.stdout
