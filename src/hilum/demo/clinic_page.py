"""The clinic's story as one page: what each step checked and measured, and what it typed."""

from collections.abc import Sequence
from pathlib import Path

from hilum.demo.clinic_proof import Found
from hilum.demo.story import SYNTHETIC
from hilum.demo.telling import Step, Telling
from hilum.reports.page import Block, Code, Details, Facts, Gallery, Page, Picture, Section, VerdictBox
from hilum.reports.tables import Cell, Column, number, table

NOT_CLINICAL = "Thresholds are wide because films are few: a clinic's plan asks for more of both."


def clinic_page(
    telling: Telling, pictures: Sequence[tuple[Path, str, str]], found: Sequence[Found] = (), *, failed: str = ""
) -> Page:
    """The page as data.

    Args:
        telling: the steps.
        pictures: PNG files with a title and what is to be seen; those that don't exist are left out.
        found: what the audit holds of the steps.
        failed: why the story ended early; empty when it didn't.
    """
    shown = [_picture(*one) for one in pictures if one[0].exists()]
    gallery = [Section(title="Seen", name="seen", blocks=(Gallery(caption=SYNTHETIC, items=tuple(shown)),))]
    return Page(
        title="A clinic's story",
        subtitle="From films to an answer, from drift to another model, and back",
        lead="Synthetic phantom films; nothing here was measured on a patient.",
        lead_tone="amber",
        verdict=_verdict(telling, failed),
        sections=(
            _overview(telling),
            *([_audit(found)] if found else []),
            *(gallery if shown else []),
            *map(_section, _numbered(telling.steps)),
        ),
        footer="hilum demo --clinic",
    )


def _verdict(telling: Telling, failed: str) -> VerdictBox:
    checks = [one for step in telling.steps for one in step.checks]
    wrong = (*telling.failures, *([failed] if failed and not telling.failures else []))
    if wrong:
        return VerdictBox(tone="red", headline=f"Checks that failed: {len(wrong)}.", lists=(("What", wrong),))
    said = f"Every check passed: {len(checks)} in {len(telling.steps)} steps."
    return VerdictBox(tone="green", headline=said, lists=(("Mind", (SYNTHETIC, NOT_CLINICAL)),))


def _numbered(steps: Sequence[Step]) -> list[tuple[int, Step]]:
    return list(enumerate(steps, 1))


def _overview(telling: Telling) -> Section:
    rows: list[list[Cell | str]] = [
        [str(i), step.name, _passed(step), number(step.seconds, 1)] for i, step in _numbered(telling.steps)
    ]
    columns: list[Column | str] = [
        "",
        "Step",
        Column(title="Checks passed", number=True),
        Column(title="Seconds", number=True),
    ]
    total = sum(step.seconds for step in telling.steps)
    caption = f"Steps and what they took; {total:.0f} s in all, on this machine."
    return Section(title="Steps", name="steps", blocks=(table(caption, columns, rows),))


def _passed(step: Step) -> Cell:
    if not step.checks:
        return Cell(text="none to make")
    return Cell(
        text=f"{sum(one.passed for one in step.checks)} of {len(step.checks)}", tone="" if step.passed else "red"
    )


def _audit(found: Sequence[Found]) -> Section:
    rows: list[list[Cell | str]] = [
        [
            one.step,
            one.act,
            Cell(text=f"{one.found} of {one.subjects}", tone="" if one.found == one.subjects else "red"),
            one.rows,
            one.actors,
        ]
        for one in found
    ]
    columns: list[Column | str] = ["Step", "Act", Column(title="Subjects with a row", number=True), "Rows", "Who"]
    caption = "What the audit holds of each step: for every film, alarm or model that it acted on, a row of the act."
    return Section(title="The audit", name="audit", blocks=(table(caption, columns, rows),))


def _section(numbered: tuple[int, Step]) -> Section:
    i, step = numbered
    blocks: list[Block] = []
    if step.checks:
        rows = [["passed" if one.passed else "FAILED", one.sentence] for one in step.checks]
        blocks.append(table("What must be so.", ["", "Check"], rows))
    if step.measured:
        blocks.append(Facts(tuple(step.measured)))
    if step.typed:
        blocks.append(Details(summary=f"Commands: {len(step.typed)}", blocks=(Code("\n".join(step.typed)),)))
    return Section(title=f"{i}. {step.name}", name=f"step-{i}", blocks=tuple(blocks))


def _picture(path: Path, title: str, text: str) -> Picture:
    return Picture(png=path.read_bytes(), title=title, text=text)
