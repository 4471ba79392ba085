"""Simulated observations put into records, and a verb's last line."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
from sqlalchemy import insert
from typer.testing import CliRunner

from hilum.cli.verbs import app
from hilum.records.database import Database
from hilum.records.observations import OUTCOMES, Observations
from hilum.records.schema import AnswerRow, FilmRow, ObservationRow, ReviewRow


def fill(database: Database, films: Observations, *, reviewed: int = 0) -> None:
    """Put simulated observations into the records, with the films and answers that they belong to."""
    assessment = json.dumps({"findings": list(films.findings)})
    rows: dict[Any, list[dict[str, Any]]] = {FilmRow: [], AnswerRow: [], ObservationRow: [], ReviewRow: []}
    for i in range(len(films)):
        at, refused = datetime.fromtimestamp(films.at[i], UTC), bool(np.isnan(films.scores[i]).any())
        film = {"id": f"{i:032x}", "received_at": at, "origin": "dicom", "calling_ae": "", "format": "dicom"}
        film |= {"content_sha256": f"{i:064x}", "file_sha256": f"{i:064x}", "size": 1, "attempts": 1}
        film |= {"state": "not-analysed" if refused else "answered", "study_instance_uid": f"1.2.{films.patient[i]}"}
        label = None if refused else films.findings[int(films.scores[i].argmax())]
        answer = {"id": f"{i:032x}", "film_id": f"{i:032x}", "model_sha256": "a" * 64, "label": label}
        answer |= {"created_at": at + timedelta(seconds=float(films.seconds[i])), "abstained": False}
        answer |= {"risk": None if refused else float(1 - films.scores[i, 0]), "assessment": assessment}
        names = {name: one.levels[one.codes[i]] for name, one in films.groups.items()}
        seen_one = {"answer_id": f"{i:032x}", "observed_at": at, "model_sha256": "a" * 64, "seconds": films.seconds[i]}
        seen_one |= {"outcome": OUTCOMES[films.outcome[i]], "pixel_statistics": films.statistics[i].tobytes(), **names}
        seen_one |= {"scores": None if refused else films.scores[i].tobytes(), "features": films.features[i].tobytes()}
        if not refused and i % 3 == 0 and len(rows[ReviewRow]) < reviewed:
            review = {
                "id": f"{i:032x}",
                "film_id": f"{i:032x}",
                "model_sha256": "a" * 64,
                "reader": "ann",
                "version": 1,
            }
            rows[ReviewRow].append(review | {"decision": "agree", "finding": None, "comment": "", "created_at": at})
        for table, row in ((FilmRow, film), (AnswerRow, answer), (ObservationRow, seen_one)):
            rows[table].append(row)
    with database.write() as session:
        for table in (FilmRow, AnswerRow, ObservationRow, ReviewRow):
            if rows[table]:
                session.execute(insert(table), rows[table])


def said(*words: object, code: int = 0) -> dict[str, Any]:
    done = CliRunner().invoke(app, [str(word) for word in words] + ["--json"], catch_exceptions=False)
    assert done.exit_code == code, done.output
    last = json.loads(done.stdout.strip().splitlines()[-1])
    assert isinstance(last, dict)
    return last
