"""A reader study on disk: truth in, a plan and reading lists out; readings in, a score and a page out."""

import csv
import io
import json
import re
from collections.abc import Callable, Collection, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

from hilum.config import fingerprint, from_mapping, to_mapping
from hilum.errors import DataError, UsageError
from hilum.evaluation.estimates import to_plain
from hilum.evaluation.reader_study_plan import Reading, StudyFilm, StudyPlan, match, of_films, washout_note
from hilum.evaluation.reader_study_report import SEQUENTIAL, StudyScore, study_page, study_score
from hilum.files import replacing_directory, write_bytes, write_json, write_text
from hilum.predictions import Predictions
from hilum.reports.page import figures_of, render_page

PLAN, REQUEST = "plan.json", "study.json"
IN_RECORDS = re.compile("[0-9a-f]{32}|[0-9a-f]{64}")
"""How the records find a film: by its id, or by the SHA-256 of its file."""

LIST = ("reader", "session", "position", "film_id", "arm", "finding", "read_at")
"""Columns of a reading list; the last two are for the reader."""

Rows = list[dict[str, str]]


def read_truth(path: Path, *, part: str = "") -> tuple[StudyFilm, ...]:
    """Films with their truth, of a CSV or Parquet file (a manifest, or any table of such columns) or of predictions.

    Args:
        path: a table with ``film_id``, ``label`` and perhaps ``patient_id``, or a run's predictions.
        part: only the films whose column ``part`` says so, such as ``test``; empty for all.

    Raises:
        DataError: the file can't be read, lacks a column, or holds no film.
    """
    rows = _table(path)
    if rows and any(name.startswith("logits.") for name in rows[0]):
        known = Predictions.read(path).labelled
        labels = [known.findings.names[i] for i in np.argmax(known.targets, axis=1)]
        rows = [
            {"film_id": film, "patient_id": patient, "label": label}
            for film, patient, label in zip(known.film_ids, known.patient_ids, labels, strict=True)
        ]
    _need(rows, ("film_id", "label", *(["part"] if part else [])), path)
    rows = [row for row in rows if not part or row["part"] == part]
    if not rows:
        raise DataError(f"{path} has no film{f' of the part {part!r}' if part else ''}. Give films with their truth.")
    return tuple(
        StudyFilm(film_id=row["film_id"], patient_id=row.get("patient_id") or row["film_id"], label=row["label"])
        for row in rows
    )


def _table(path: Path) -> Rows:
    """A CSV or Parquet file as rows of text; null is empty.

    Raises:
        DataError: it is neither, or is damaged.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        if path.suffix.casefold() != ".parquet":
            rows = list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8-sig"), newline=""), strict=True))
            return [{name or "": _text(value) for name, value in row.items()} for row in rows]
        names = [name for name in pq.read_schema(path).names if name not in ("thumb", "path")]
        found = pq.read_table(path, columns=names).to_pylist()
        return [{name: _text(value) for name, value in row.items()} for row in found]
    except (OSError, UnicodeDecodeError, csv.Error, pa.ArrowException) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise DataError(f"{path} can't be read as a table ({reason}). Give a CSV in UTF-8, or Parquet.") from None


def _text(value: Any) -> str:
    return "" if value is None else str(value).strip()


def _need(rows: Rows, names: Sequence[str], path: Path) -> None:
    missing = [name for name in names if rows and name not in rows[0]]
    if missing:
        raise DataError(f"{path} has no column {', '.join(missing)}; it has {', '.join(rows[0])}. Name it so.")


def write_plan(plan: StudyPlan, out: Path, *, more: Callable[[Path], None] = lambda folder: None) -> None:
    """Write a folder that must not be there: the plan, and a list for each reader without any truth.

    Args:
        plan: the plan.
        out: the folder, which appears whole or not at all.
        more: writes what else goes into it.

    Raises:
        UsageError: the folder is there.
    """
    if out.exists():
        raise UsageError(f"{out} is there already, and a plan that readers follow must not change. Give another --out.")
    with replacing_directory(out) as folder:
        write_json(folder / PLAN, to_mapping(plan))
        for reader in plan.readers:
            write_text(folder / "lists" / f"{reader}.csv", _list(plan, reader))
        more(folder)


def _list(plan: StudyPlan, reader: str) -> str:
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(LIST)
    for number, session in enumerate(plan.sessions[reader], 1):
        writer.writerows([reader, number, i, slot.film_id, slot.arm, "", ""] for i, slot in enumerate(session, 1))
    return text.getvalue()


def read_plan(path: Path) -> StudyPlan:
    """Read what :func:`write_plan` wrote: the folder, or the plan in it.

    Raises:
        UsageError: there is none, or it is damaged or was changed.
    """
    path = path / PLAN if path.is_dir() else path
    try:
        values = json.loads(path.read_bytes())
    except (OSError, ValueError):
        raise UsageError(f"{path} is no plan of a reader study. Make one with hilum reader-study create.") from None
    if not isinstance(values, dict):
        raise UsageError(f"{path} is no plan of a reader study. Make one with hilum reader-study create.")
    return from_mapping(StudyPlan, values, where=path.name)


def read_readings(paths: Sequence[Path]) -> list[Reading]:
    """Filled-in reading lists, or tables with ``reader``, ``film_id``, ``arm``, ``finding`` (``rating``, ``read_at``).

    Raises:
        DataError: a file can't be read, lacks a column, or a date is none.
    """
    found = []
    for path in paths:
        rows = _table(path)
        _need(rows, ("reader", "film_id", "arm", "finding"), path)
        for number, row in enumerate(rows, 1):
            where = f"Reading {number} of {path.name}"
            at = _date(row.get("read_at", ""), where)
            known = {name: row[name] for name in ("reader", "film_id", "arm", "finding")}
            found.append(Reading(**known, rating=_rating(row.get("rating", ""), where), read_at=at, where=where))
    return found


def _rating(text: str, where: str) -> float | None:
    try:
        value = float(text) if text else None
    except ValueError:
        value = -1.0
    if value is not None and not 0 <= value <= 100:
        raise DataError(f"{where}: rating is {text!r}. Write a number from 0 to 100, or leave it empty.")
    return value


def _date(text: str, where: str) -> date | None:
    try:
        return date.fromisoformat(text[:10]) if text else None
    except ValueError:
        raise DataError(f"{where}: read_at is {text!r}. Write a date as 2026-03-31, or leave it empty.") from None


def score_study(
    plan: StudyPlan,
    readings: Sequence[Reading],
    *,
    sequential: bool = False,
    there: Collection[str] | None = None,
    notes: Sequence[str] = (),
) -> StudyScore:
    """Match the readings with the plan and score them.

    Args:
        plan: the whole plan.
        readings: what readers said.
        sequential: whether they are read-first opinions and the reviews after them.
        there: names of the films that the records still hold; None for all.
        notes: what else must be known to read the figures.

    Raises:
        DataError: readings that are not the plan's, twice or missing.
    """
    asked = plan if there is None else of_films(plan, there)
    found = match(asked, readings)
    if gone := len(plan.films) - len(asked.films):
        notes = (*notes, f"{gone} of {len(plan.films)} films were erased since and are left out for every reader.")
    first = SEQUENTIAL if sequential else washout_note(asked, readings)
    design = "sequential" if sequential else "crossover"
    return study_score(asked, found, design=design, fingerprint=fingerprint(plan), notes=(first, *notes))


def write_request(plan: StudyPlan, out: Path, *, name: str, answer: str, priors: bool) -> None:
    """Write ``study.json`` beside a plan: what the service registers, without any truth.

    Raises:
        UsageError: a film is not named as the records can find it.
    """
    odd = next((film.film_id for film in plan.films if not IN_RECORDS.fullmatch(film.film_id)), None)
    if odd is not None:
        raise UsageError(
            f"The film {odd!r} can't be found in the records by that name. Name films by the SHA-256 of their files, "
            "or by their ids in the records."
        )
    said = {
        "name": name,
        "plan_sha256": fingerprint(plan),
        "question": plan.finding,
        "findings": plan.findings,
        "answer": answer,
        "priors": priors,
        "washout_days": plan.washout_days,
        "readers": {
            reader: [[{"film": slot.film_id, "arm": slot.arm} for slot in session] for session in both]
            for reader, both in plan.sessions.items()
        },
    }
    write_json(out / REQUEST, said)


def write_score(score: StudyScore, out: Path) -> None:
    """Write ``score.json``, ``report.html`` and the page's figures."""
    page = study_page(score)
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / "score.json", to_plain(score))
    write_text(out / "report.html", render_page(page))
    for figure in figures_of(page.sections):
        write_bytes(out / f"{figure.name}.png", figure.png)
