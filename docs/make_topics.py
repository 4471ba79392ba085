"""Fill what is measured into ``docs/topics``, ``docs/results.md`` and the studies' headers, from finished studies.

``python docs/make_topics.py --atlas atlas`` copies the numbers of each study's folder, and the figures that the pages
show, into ``docs/topics/measured``, and fills the pages; without ``--atlas`` the pages are filled from what lies there;
``--check`` says which page is not current. No measured number on a page is typed by hand.

A block is ``<!-- measured FOLDER numbers|finding|figure NAME|table KEY -->`` … ``<!-- /measured -->``; FOLDER is the
name of a study, or of another run of it, such as ``vgg16-flowers@ants-bees``. In the header of a study's file the lines
``Cost:`` and ``Expected:`` are filled.
"""

import argparse
import json
import re
import shutil
import sys
import textwrap
from pathlib import Path
from typing import Any

TOPICS = Path(__file__).with_name("topics")
RESULTS = Path(__file__).with_name("results.md")
MEASURED = TOPICS / "measured"
BLOCK = re.compile(r"(<!-- measured (\S+) (\S+)(?: (\S+))? -->\n)(.*?)(<!-- /measured -->)", re.S)

RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")

HERE = re.compile(r"(?<![\w:/.~])/(?:[\w.@-]+/)+[\w.@-]+")
"""An absolute path: where something lay on the machine that measured is nobody's business."""


def pages() -> list[Path]:
    """The pages that have blocks."""
    return [*sorted(TOPICS.glob("*.md")), RESULTS]


def take(atlas: Path) -> None:
    """Copy the numbers of every finished study of a folder, and the figures that pages show."""
    wanted = {
        (study, name)
        for page in pages()
        for _, study, kind, name, _, _ in BLOCK.findall(page.read_text())
        if kind == "figure"
    }
    MEASURED.mkdir(parents=True, exist_ok=True)
    for result in sorted(atlas.glob("*/result.json")):
        study = result.parent.name
        for old in MEASURED.glob(f"{study}.*"):
            old.unlink()
        values = json.loads(HERE.sub("a folder of the machine", result.read_text()))
        (MEASURED / f"{study}.json").write_text(json.dumps(values, ensure_ascii=False, separators=(",", ":")) + "\n")
        for name in sorted(name for of, name in wanted if of == study):
            shutil.copyfile(result.parent / "figures" / f"{name}.png", MEASURED / f"{study}.{name}.png")


def measured(study: str) -> bool:
    """Whether a study was measured; else its blocks stay empty."""
    return (MEASURED / f"{study}.json").exists()


def read(study: str) -> dict[str, Any]:
    """What was measured in a study."""
    values: dict[str, Any] = json.loads((MEASURED / f"{study}.json").read_text())
    return values


def filled(text: str) -> str:
    """A page with its blocks filled from what was measured."""
    return BLOCK.sub(lambda m: m[1] + (block(m[2], m[3], m[4]) if measured(m[2]) else "") + m[6], text)


def block(study: str, kind: str, name: str | None) -> str:
    """The inside of one block, as seen from the page's folder.

    Raises:
        SystemExit: a block of a kind, figure or table that there is not.
    """
    values = read(study)
    if kind == "numbers":
        return f"{numbers(values)}\n\n{origin(values)}\n"
    if kind == "finding":
        return f"> {values['finding']}\n"
    if kind == "figure":
        figure = next((figure for figure in values["figures"] if figure["name"] == name), None)
        if figure is None:
            sys.exit(f"{study} has no figure {name!r}; it has {[f['name'] for f in values['figures']]}.")
        caption = f"\n*{figure['title']}. {figure['caption']}*\n" if figure["caption"] else f"\n*{figure['title']}.*\n"
        return f"![{figure['alt']}](measured/{study}.{name}.png)\n{caption}"
    if kind == "table" and name in values["measured"]:
        return table(values["measured"][name]) + "\n"
    sys.exit(f"A block asks for {kind} {name} of {study}, which is not there.")


def numbers(values: dict[str, Any]) -> str:
    """The study's main numbers as a Markdown table."""
    rows = [
        (n["name"], value_text(n), n["spread"] or "–", n["published"] or "–", n["source"] or "–")
        for n in values["numbers"]
    ]
    return markdown(("quantity", "measured here", "interval", "published or commonly quoted", "source"), rows)


def value_text(number: dict[str, Any]) -> str:
    """A number with unit and bounds, as the report writes it."""
    from hilum.studies.outcome import Number

    return Number(**number).text()


def table(rows: list[dict[str, Any]]) -> str:
    """A list of flat records as a Markdown table; its columns are the records' keys."""
    header = tuple(rows[0])
    return markdown([key.replace("_", " ") for key in header], [[cell(row.get(key)) for key in header] for row in rows])


def cell(value: Any) -> str:
    """A value for a reader: four significant digits, thousands set apart, powers raised, a dash for nothing."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        digits, exponent, power = (f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}").partition("e")
        return digits.replace("-", "−") + (f"×10{str(int(power)).translate(RAISED)}" if exponent else "")
    if isinstance(value, list):
        return " × ".join(cell(item) for item in value)
    return str(value)


def markdown(header: Any, rows: Any) -> str:
    """A Markdown table; bars inside cells are escaped."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(str(c).replace("|", "\\|") for c in line) + " |" for line in lines)


def origin(values: dict[str, Any]) -> str:
    """Where the numbers come from: command, data, machine, time."""
    return (
        f"`{values['command']}` · {values['machine']} · {values['seconds']:,.0f} s · {values['created'][:10]}  \n"
        f"{values['first_line']}"
    )


STUDIES = Path(__file__).parents[1] / "src" / "hilum" / "studies"
HEADER_LINE = re.compile(r"^(Cost|Expected): .*\n(?:    .*\n)*", re.M)
NOT_YET = "not measured yet."
SHOWN = 3
"""Numbers that a header names."""


def table_of_studies() -> Any:
    """The studies."""
    from hilum.studies.table import STUDIES as ROWS

    return ROWS


def header(text: str, study: str) -> str:
    """A study's file with what its header says of cost and expected numbers filled in."""
    lines = {"Cost": cost(study), "Expected": expected(study)}

    def line(found: re.Match[str]) -> str:
        words = f"{found[1]}: {lines[found[1]]}"
        return (
            textwrap.fill(words, 118, subsequent_indent="    ", break_long_words=False, break_on_hyphens=False) + "\n"
        )

    docstring, end, rest = text[3:].partition('"""')
    return text[:3] + HEADER_LINE.sub(line, docstring) + end + rest


def runs_of(study: str) -> list[dict[str, Any]]:
    """All measured runs of a study, its own first."""
    return [
        read(file.stem) for file in sorted(MEASURED.glob(f"{study}.json")) + sorted(MEASURED.glob(f"{study}@*.json"))
    ]


def cost(study: str) -> str:
    """What each measured run took."""
    if not runs_of(study):
        return NOT_YET
    took = [f"{run['command']}: {run['seconds']:,.0f} s ({run['machine']})" for run in runs_of(study)]
    return "; ".join(took) + "."


def expected(study: str) -> str:
    """The first numbers of the study's own run, with their bounds and the command."""
    if not measured(study):
        return NOT_YET
    values = read(study)
    found = [n for n in values["numbers"] if not n["timing"]][:SHOWN]
    said = "; ".join(f"{n['name']}: {value_text(n)}" for n in found)
    return f"{said} ({values['command']})."


def main() -> None:
    """Fill or check the pages and headers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--atlas", type=Path, help="folder of finished studies (hilum study atlas)")
    parser.add_argument("--check", action="store_true", help="change nothing; fail when a page is not current")
    arguments = parser.parse_args()
    if arguments.atlas:
        take(arguments.atlas)
    stale = []
    for page in pages():
        text = page.read_text()
        new = filled(text)
        if new != text:
            stale.append(page.name)
            if not arguments.check:
                page.write_text(new)
    for row in table_of_studies():
        file = STUDIES / f"{row.module}.py"
        new = header(file.read_text(), row.name)
        if new != file.read_text():
            stale.append(file.name)
            if not arguments.check:
                file.write_text(new)
    if arguments.check and stale:
        sys.exit(f"Not current: {', '.join(stale)}. Run python docs/make_topics.py.")


if __name__ == "__main__":
    main()
