"""The atlas: one site that links every report, keeps what is finished, and tells what failed."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from hilum.errors import DataError
from hilum.studies import running
from hilum.studies.atlas import make_atlas
from hilum.studies.table import Study


def entry(name: str) -> Study:
    return Study(name=name, title=f"Study {name}", question="Does it run?", module="small", topic="small.md")


def atlas(tmp_path: Path, *names: str) -> dict[str, Any]:
    studies = [entry(name) for name in names]
    return make_atlas(tmp_path / "site", cache=tmp_path / "cache", download=False, studies=studies)


@pytest.fixture
def known(small_study: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The small study under any name; one called ``broken`` has bad data."""
    found = running.study("small")

    def run(bench: Any, scale: Any) -> Any:
        if bench.request.study == "broken":
            raise DataError("The folder has one class, <script>. Give two.")
        return small_run(bench, scale)

    small_run, small_study.run = small_study.run, run
    kind = type(found)
    monkeypatch.setattr(
        running,
        "study",
        lambda name: kind(name=name, title=f"Study {name}", question="Does it run?", module="small", topic="small.md"),
    )
    return small_study


def test_the_index_links_every_report_with_its_finding(known: SimpleNamespace, tmp_path: Path) -> None:
    done = atlas(tmp_path, "one", "two")
    assert [state["state"] for state in done["studies"]] == ["measured", "measured"]
    page = (tmp_path / "site" / "index.html").read_text()
    for name in ("one", "two"):
        assert f'href="{name}/report.html"' in page
        assert (tmp_path / "site" / name / "report.html").exists()
    assert page.count("The linear model reads") == 2
    assert "2 of 2 studies measured; 2 of them on embedded data or with a stand-in." in page


def test_a_second_call_keeps_what_is_finished(known: SimpleNamespace, tmp_path: Path) -> None:
    atlas(tmp_path, "one")
    first = (tmp_path / "site" / "one" / "result.json").read_bytes()
    done = atlas(tmp_path, "one", "two")
    assert [state["state"] for state in done["studies"]] == ["kept", "measured"]
    assert (tmp_path / "site" / "one" / "result.json").read_bytes() == first


def test_a_study_that_fails_is_told_and_the_others_go_on(known: SimpleNamespace, tmp_path: Path) -> None:
    done = atlas(tmp_path, "broken", "two")
    assert [state["state"] for state in done["studies"]] == ["failed", "measured"]
    page = (tmp_path / "site" / "index.html").read_text()
    assert "Study broken could not be measured: The folder has one class, &lt;script&gt;. Give two." in page
    assert 'href="two/report.html"' in page
    assert not (tmp_path / "site" / "broken").exists()
