"""Documents: links resolve, the page of the command line is current, the glossary is in order."""

import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "src").rglob("*.md")])
LINK = re.compile(r"\]\((?!https?://|mailto:)([^)#\s]*)(#[^)\s]*)?\)")


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_every_link_inside_the_tree_resolves(page: Path) -> None:
    for target, anchor in LINK.findall(page.read_text()):
        path = (page.parent / target).resolve() if target else page
        assert path.exists(), f"{page.name} links to {target}"
        if anchor and path.suffix == ".md":
            headings = re.findall(r"^#+ (.+)$", path.read_text(), re.M)
            anchors = {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings}
            assert anchor[1:] in anchors, f"{page.name} links to {target}{anchor}; there are {sorted(anchors)}"


def test_every_file_that_the_architecture_names_is_there() -> None:
    """A path begins at ``src/hilum`` or at the root; a bare name is that of some module."""
    text = (ROOT / "ARCHITECTURE.md").read_text()
    named = set(re.findall(r"`([\w./-]+\.(?:py|js|md|ini|yaml))`", text))
    files = {path.name for path in (ROOT / "src" / "hilum").rglob("*.*")}
    assert len(named) > 50
    lost = [n for n in named if not ((ROOT / "src" / "hilum" / n).is_file() or (ROOT / n).is_file())]
    assert [name for name in lost if "/" in name or name not in files] == []


def test_the_page_of_the_command_line_is_current() -> None:
    command = [sys.executable, str(ROOT / "docs" / "make_cli.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr


def test_the_measured_blocks_of_the_pages_are_current() -> None:
    command = [sys.executable, str(ROOT / "docs" / "make_topics.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr


def test_numbers_on_the_pages_of_topics_have_a_minus_sign_and_raised_powers() -> None:
    """In tables and findings; what stands beside a kept picture says what the picture says."""
    cell = re.compile(r"\| -?\d[\d.,]*e[-+]?\d+ \||\| -\d[\d.]* \||^> .*[ (]-\d+\.\d", re.M)
    pages = (ROOT / "docs" / "topics").glob("*.md")
    assert [(page.name, found) for page in pages for found in cell.findall(page.read_text())] == []


def test_results_tell_a_small_p_value_as_below_what_is_worth_telling() -> None:
    audits = runpy.run_path(str(ROOT / "docs" / "make_results.py"))["audits"]
    value = {"value": 0.9, "low": 0.8, "high": 0.95}
    row = {"name": "a", "about": "b", "verdict": "alarm", "value": value, "chance": 0.5}
    told = audits([row | {"adjusted": 3.9e-96}, row | {"adjusted": 0.0015}])["alarm_rows"]
    assert [line.split(" | ")[-1] for line in told.splitlines()] == ["< 0.001 |", "0.0015 |"]
    assert re.findall(r"\|[^|]*\de-\d+ \|", (ROOT / "docs" / "results.md").read_text()) == []


def test_every_measured_file_is_shown_on_a_page() -> None:
    """What lies in docs/topics/measured and no page asks for is stale."""
    topics = ROOT / "docs" / "topics"
    text = "".join(page.read_text() for page in [*topics.glob("*.md"), ROOT / "docs" / "results.md"])
    asked = set(re.findall(r"<!-- measured (\S+) ", text))
    shown = {f"{s}.{name}.png" for s, name in re.findall(r"<!-- measured (\S+) figure (\S+) -->", text)}
    there = {path.name for path in (topics / "measured").iterdir()}
    assert there <= shown | {f"{study}.json" for study in asked}


def test_the_glossary_is_in_alphabetical_order_and_has_one_entry_a_word() -> None:
    words = re.findall(r"^\*\*(.+?)\*\*", (ROOT / "docs" / "glossary.md").read_text(), re.M)
    assert len(words) > 10
    assert words == sorted(set(words), key=str.casefold)


def test_every_decision_has_a_status_and_a_number_of_its_own() -> None:
    pages = sorted((ROOT / "docs" / "decisions").glob("*.md"))
    numbers = [page.name[:4] for page in pages]
    assert numbers == [f"{i:04d}" for i in range(1, len(pages) + 1)]
    assert all("**Status:**" in page.read_text() for page in pages)


def test_the_readme_names_only_verbs_that_exist() -> None:
    named = set(re.findall(r"^hilum ([\w-]+)", (ROOT / "README.md").read_text(), re.M))
    page = (ROOT / "docs" / "cli.md").read_text()
    assert named
    assert all(f"## `hilum {verb}`" in page for verb in named)


def test_arguments_that_may_be_many_have_one_ellipsis() -> None:
    usages = re.findall(r"^Usage: .*", (ROOT / "docs" / "cli.md").read_text(), re.M)
    assert any(line.endswith("{BUNDLE} {FILES}...") for line in usages)
    assert [line for line in usages if re.search(r"(…|\.\.\.)[}\]]*\.\.\.", line)] == []


def test_the_page_of_benchmarks_is_what_the_kept_numbers_say(monkeypatch: pytest.MonkeyPatch) -> None:
    """In this process, where most of what the scripts import is loaded already."""
    before = set(sys.modules)
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    monkeypatch.setattr(sys, "argv", ["compose.py", "--check"])
    try:
        runpy.run_path(str(ROOT / "benchmarks" / "compose.py"), run_name="__main__")
    finally:
        for name in set(sys.modules) - before:
            if "." not in name and (ROOT / "benchmarks" / f"{name}.py").exists():
                del sys.modules[name]


def test_every_kept_number_of_a_benchmark_has_its_section() -> None:
    parts = {part.name: part for part in runpy.run_path(str(ROOT / "benchmarks" / "compose.py"))["PARTS"]}
    for kept in (ROOT / "docs" / "measured-benchmarks").glob("*"):
        assert kept.stem in parts, f"{kept.name} is shown nowhere"
        assert (ROOT / "benchmarks" / f"{parts[kept.stem].script}.py").exists(), kept.name
