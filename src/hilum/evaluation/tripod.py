"""TRIPOD+AI: the reporting checklist, filled from artefacts; what only people can say stays visibly empty.

Items in short words of our own after Collins et al. 2024, BMJ 385:e078378, doi:10.1136/bmj-2023-078378 (27 items, 52
with their letters). The full wording is in the paper; an item counts as answered only where an artefact answers it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from hilum.errors import DataError
from hilum.reports.page import Block, Details, Paragraph, Section
from hilum.reports.tables import Cell, table

Part = Literal["title", "abstract", "introduction", "methods", "open science", "involvement", "results", "discussion"]

EMPTY = "not stated"
"""What stands where nothing answers an item."""

ITEMS: tuple[tuple[str, Part, str], ...] = (
    ("1", "title", "Named as developing or evaluating a prediction model, with the population and the outcome"),
    ("2", "abstract", "Abstract as TRIPOD+AI for abstracts asks"),
    ("3a", "introduction", "Healthcare context and rationale, with existing models"),
    ("3b", "introduction", "Target population, intended purpose and intended users"),
    ("3c", "introduction", "Known health inequalities between groups"),
    ("4", "introduction", "Aim: development, validation or both"),
    ("5a", "methods", "Sources of data, separately for development and evaluation, and how representative they are"),
    ("5b", "methods", "Dates of collection"),
    ("6a", "methods", "Setting: hospitals, their number and place"),
    ("6b", "methods", "Who was eligible"),
    ("6c", "methods", "Treatments received, and how they were handled"),
    ("7", "methods", "Preparation of data and quality checks, alike for all groups"),
    ("8a", "methods", "Outcome: its definition, why this one, how and when it was assessed, alike for all groups"),
    ("8b", "methods", "Who assessed an outcome that needs interpretation, with what qualification"),
    ("8c", "methods", "Whether the outcome was assessed blind to the predictors"),
    ("9a", "methods", "Choice of the initial predictors, and any selection before the model was built"),
    ("9b", "methods", "Definition of all predictors, how and when they were measured, and blind to what"),
    ("9c", "methods", "Who assessed predictors that need interpretation"),
    ("10", "methods", "How the sample size was arrived at, for development and evaluation, and whether it sufficed"),
    ("11", "methods", "How missing data were handled, and why data were omitted"),
    ("12a", "methods", "How data were divided for development and evaluation"),
    ("12b", "methods", "How predictors were handled: preprocessing, transformation"),
    ("12c", "methods", "Kind of model, how it was built, tuned and validated internally"),
    ("12d", "methods", "Differences between clusters, such as hospitals"),
    ("12e", "methods", "Measures of performance, and why these"),
    ("12f", "methods", "Updating of the model that the evaluation gave rise to, such as recalibration"),
    ("12g", "methods", "For evaluation: how predictions were computed"),
    ("13", "methods", "Class imbalance: what was done, and recalibration after it"),
    ("14", "methods", "Fairness: what was done and why"),
    ("15", "methods", "Output of the model, and where thresholds come from"),
    ("16", "methods", "Differences between development and evaluation data: setting, eligibility, outcome, predictors"),
    ("17", "methods", "Ethical approval and consent"),
    ("18a", "open science", "Funding and the role of funders"),
    ("18b", "open science", "Conflicts of interest"),
    ("18c", "open science", "Where the protocol is"),
    ("18d", "open science", "Registration of the study"),
    ("18e", "open science", "Availability of data"),
    ("18f", "open science", "Availability of code"),
    ("19", "involvement", "Involvement of patients and the public"),
    ("20a", "results", "Flow of participants, with and without the outcome"),
    ("20b", "results", "Characteristics of participants, by data source and group"),
    ("20c", "results", "Comparison of evaluation with development data"),
    ("21", "results", "Participants and events in each analysis"),
    ("22", "results", "The full model, so that others can predict with it"),
    ("23a", "results", "Performance with intervals, also in groups"),
    ("23b", "results", "Heterogeneity of performance between clusters"),
    ("24", "results", "Results of updating the model, and the updated model"),
    ("25", "discussion", "Interpretation, with fairness, objectives and earlier studies"),
    (
        "26",
        "discussion",
        "Limitations: sample, overfitting, missing data, and what they mean for bias and generalisability",
    ),
    ("27a", "discussion", "How poor or missing input is handled in use"),
    ("27b", "discussion", "Whether users must interact with it, and what expertise they need"),
    ("27c", "discussion", "Next steps for research and applicability"),
)
"""Number, part and subject of each item."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One item with what answers it."""

    number: str
    """As in the paper, such as ``23a``."""
    part: Part
    """Part of a paper that it belongs to."""
    subject: str
    """What is asked, in short."""
    answer: str = ""
    """What artefacts say, in a sentence; empty when they say nothing."""
    where: str = ""
    """Where it stands: an anchor of the report or a file."""


def checklist(answers: Mapping[str, tuple[str, str]]) -> tuple[Item, ...]:
    """All items, those filled for which an artefact has an answer.

    Args:
        answers: by number of the item, the answer and where it stands; empty texts count as none.

    Raises:
        DataError: an answer to an item that doesn't exist.
    """
    unknown = sorted(set(answers) - {number for number, _, _ in ITEMS})
    if unknown:
        raise DataError(f"TRIPOD+AI has no item {', '.join(unknown)}. Items are {ITEMS[0][0]} to {ITEMS[-1][0]}.")
    made = []
    for number, part, subject in ITEMS:
        answer, where = answers.get(number, ("", ""))
        made.append(
            Item(number=number, part=part, subject=subject, answer=answer.strip(), where=where if answer else "")
        )
    return tuple(made)


def unanswered(items: Sequence[Item]) -> tuple[str, ...]:
    """Numbers of the items that nothing answers."""
    return tuple(item.number for item in items if not item.answer)


def checklist_section(items: Sequence[Item]) -> Section | None:
    """The checklist as a section, folded; what is missing is tinted and says so."""
    if not items:
        return None
    missing = unanswered(items)
    rows: list[list[Cell | str]] = [
        [
            Cell(text=item.number),
            item.subject,
            Cell(text=item.answer) if item.answer else Cell(text=EMPTY, tone="amber"),
            item.where,
        ]
        for item in items
    ]
    caption = (
        "In short words after Collins et al. 2024 (BMJ 385:e078378); the paper has the full wording. Filled from this "
        "run's artefacts alone."
    )
    blocks: tuple[Block, ...] = (
        Paragraph(
            f"{len(items) - len(missing)} of {len(items)} items are answered by this run's artefacts. "
            f"{len(missing)} are not, and need people: {', '.join(missing)}."
            if missing
            else f"All {len(items)} items are answered by this run's artefacts."
        ),
        Details(
            summary="The checklist, item by item",
            blocks=(table(caption, ["item", "asked", "answer", "where"], rows),),
        ),
    )
    return Section(name="tripod", title="TRIPOD+AI checklist", blocks=blocks)
