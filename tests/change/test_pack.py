"""``hilum docs pack``: filled from artefacts, each missing field named, and never said to be clearance."""

import json
import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from tests.bundle.small import small_bundle
from tests.change.made import plan
from tests.monitoring.filling import said

from hilum.bundle.reading import read_bundle
from hilum.change import document_tables as asked
from hilum.change.pack import (
    DOCUMENTS,
    NOT_CLEARANCE,
    Artefacts,
    Site,
    document_page,
    missing_fields,
    read_json,
    read_site,
    site_template,
    value_of,
    write_pack,
)
from hilum.change.plan import SubgroupFloor
from hilum.errors import ConfigError, DataError, UsageError
from hilum.records.registry import Deployment
from hilum.reports.page import render_page

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    changes: dict[str, Any] = {"provenance": {"run": "r1"}, "fingerprints": {"films": "5" * 64}}
    return small_bundle(tmp_path_factory.mktemp("pack") / "small.hilum", **changes)


def whole(bundle: Path, monkeypatch: pytest.MonkeyPatch | None = None) -> Artefacts:
    from datetime import UTC, datetime

    figure = {"value": 0.91, "low": 0.88, "high": 0.94}
    row = Deployment(
        seq=1,
        at=datetime(2026, 1, 1, tzinfo=UTC),
        act="begin",
        production="a" * 64,
        candidate=None,
        stage="full",
        share=0,
        actor="qm",
        reason="the first",
    )
    return Artefacts(
        bundle=read_bundle(bundle),
        plan=plan(subgroups=(SubgroupFloor(group="sex", finding="covid-19", floor=0.8),)),
        scorecard={
            "films": 400,
            "patients": 300,
            "auroc": {"covid-19": figure},
            "sensitivity": {"covid-19": figure},
            "specificity": {"covid-19": figure},
            "subgroups": ["sex"],
        },
        monitor={"owner": "qm", "looks": [{"number": 1}], "performance": ["x"], "self_test": ["x"]},
        history=(row,),
        site=Site(**{one.name: f"the site's {one.name}" for one in fields(Site)}),
    )


def test_with_every_artefact_nothing_is_missing_but_what_the_bundle_lacks(bundle: Path) -> None:
    have = whole(bundle)
    assert {one.source for one in missing_fields(have)} == set()
    text = render_page(document_page("clinical-evaluation", have, made="x"))
    assert "covid-19: 0.910 (0.880–0.940)" in text
    assert "the site&#39;s reader_study" in text
    assert "Missing" not in text


def test_without_artefacts_each_field_is_listed_with_its_mend(bundle: Path, tmp_path: Path) -> None:
    missing = write_pack(tmp_path, Artefacts(bundle=read_bundle(bundle)), made="x")
    sources = {one.source for one in missing}
    assert {"plan.sha256", "scorecard.auroc", "monitor.looks", "registry", "site.reader_study"} <= sources
    assert not any(source.startswith("doc:") for source in sources)
    index = (tmp_path / "index.html").read_text()
    assert f"{len(missing)} fields are missing" in index
    assert "Give an evaluation&#39;s scorecard (--scorecard)." in index
    assert json.loads((tmp_path / "pack.json").read_text())["missing"][0]["document"] == "intended-use"


def test_every_document_says_that_it_is_no_clearance(bundle: Path, tmp_path: Path) -> None:
    write_pack(tmp_path, whole(bundle), made="x")
    pages = sorted(path.stem for path in tmp_path.glob("*.html"))
    assert pages == sorted([*DOCUMENTS, "index"])
    for path in tmp_path.glob("*.html"):
        assert "They are not clearance" in path.read_text(), path.name
    assert json.loads((tmp_path / "pack.json").read_text())["notice"] == NOT_CLEARANCE


def test_the_ten_principles_and_three_parts_are_all_there() -> None:
    assert [item.title.split(".")[0] for item in asked.GMLP] == [str(i) for i in range(1, 11)]
    assert [item.title[:6] for item in asked.PCCP[:3]] == ["Part 1", "Part 2", "Part 3"]
    assert "false negative" in asked.HAZARDS[0].name


def test_every_page_and_test_that_is_named_as_evidence_is_there() -> None:
    items = [item for _, several in DOCUMENTS.values() for item in several]
    sources = [source for item in items for source in item.sources] + [one.source for one in asked.SAFEGUARDS]
    named = {source.removeprefix("doc:") for source in sources if source.startswith("doc:")}
    for hazard in asked.HAZARDS:
        named |= set(re.findall(r"\S+\.(?:md|py)", hazard.check))
    assert len(named) > 10
    assert [name for name in sorted(named) if not (ROOT / name).exists()] == []


def test_every_source_is_one_that_can_be_filled(bundle: Path) -> None:
    items = [item for _, several in DOCUMENTS.values() for item in several]
    sources = {source for item in items for source in item.sources} | {one.source for one in asked.SAFEGUARDS}
    have = whole(bundle)
    assert [source for source in sorted(sources) if not value_of(source, have)] == []
    known = {f"site.{one.name}" for one in fields(Site)}
    assert known == {source for source in sources if source.startswith("site.")}


def test_the_verb_writes_the_pack_and_strict_fails_on_a_missing_field(bundle: Path, tmp_path: Path) -> None:
    made = said("docs", "pack", bundle, "--out", tmp_path / "documents", "--strict", code=1)
    assert made["missing"]
    assert made["path"].endswith("index.html")
    said("docs", "site", tmp_path / "site.toml")
    assert read_site(tmp_path / "site.toml") == Site()
    with pytest.raises(UsageError, match="not overwritten"):
        said("docs", "site", tmp_path / "site.toml")


def test_files_that_can_not_be_read_are_named(tmp_path: Path) -> None:
    (tmp_path / "bad.toml").write_text('reader_studdy = "x"\n')
    with pytest.raises(ConfigError, match="unknown key 'reader_studdy'. Did you mean 'reader_study'"):
        read_site(tmp_path / "bad.toml")
    with pytest.raises(ConfigError, match="can't be read as TOML"):
        read_site(tmp_path / "absent.toml")
    with pytest.raises(DataError, match="can't be read as JSON"):
        read_json(tmp_path / "absent.json")
    (tmp_path / "list.json").write_text("[]")
    with pytest.raises(DataError, match="holds list, not an object"):
        read_json(tmp_path / "list.json")
    assert site_template().count('= ""') == len(fields(Site))
