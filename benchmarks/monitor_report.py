"""A monitor's report over many records; what keeping a record costs is in ``observing.py``.

Run: OMP_NUM_THREADS=2 python benchmarks/monitor_report.py [--records 1000000] [--features 64]

Records are synthetic (``monitoring.simulation``): a year and a half at a large site, drawn once for 20,000 films and
repeated, every third film being of the patient of the film before. They lie in SQLite as the service writes them. Wall
seconds on an idle machine are what a person waits; seconds of the processor stand beside them, since a busy machine
changes only the former.
"""

import argparse
import resource
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from _section import Save, head, main, table, verdict
from sqlalchemy import insert

from hilum.monitoring.plan import WatchPlan
from hilum.monitoring.report import monitor_page, seen
from hilum.monitoring.simulation import DAY_S, FINDINGS, START, Site, simulate
from hilum.records.database import Database
from hilum.records.observations import OUTCOMES, read_observations
from hilum.records.proving import reading
from hilum.records.schema import AnswerRow, FilmRow, IdentifierRow, ObservationRow
from hilum.reports.page import render_page

DAYS = 540
AT_ONCE = 20_000
BAR_S = 60.0


def fill(database: Database, records: int, features: int) -> None:
    """Records as the service writes them, spread over :data:`DAYS`."""
    films = simulate(Site(films_a_day=1000), 20, np.random.default_rng(0))
    n = range(len(films))
    scores = [None if np.isnan(one).any() else one.tobytes() for one in films.scores]
    kept = [np.resize(one, features).astype("<f2").tobytes() for one in films.features]
    statistics, outcomes = [one.tobytes() for one in films.statistics], [OUTCOMES[one] for one in films.outcome]
    groups = [{name: group.levels[group.codes[j]] for name, group in films.groups.items()} for j in n]
    step = DAYS * DAY_S / records
    for start in range(0, records, AT_ONCE):
        rows: dict[Any, list[dict[str, Any]]] = {FilmRow: [], IdentifierRow: [], AnswerRow: [], ObservationRow: []}
        for i in range(start, min(records, start + AT_ONCE)):
            j = i % len(films)
            at, key = datetime.fromtimestamp(START + i * step, UTC), f"{i:032x}"
            film = {"id": key, "received_at": at, "origin": "dicom", "calling_ae": "", "format": "dicom", "size": 1}
            film |= {"content_sha256": f"{i:064x}", "file_sha256": f"{i:064x}", "attempts": 1, "state": "answered"}
            patient = f"{i - (i % 3 == 2):032x}"
            who = {"film_id": key, "key_id": "", "sealed": b"", "patient_index": patient, "accession_index": ""}
            answer = {"id": key, "film_id": key, "model_sha256": "a" * 64, "created_at": at + timedelta(seconds=1)}
            answer |= {"label": None, "abstained": False, "risk": 0.5, "assessment": '{"findings":[]}'}
            one = {"answer_id": key, "observed_at": at, "model_sha256": "a" * 64, "seconds": 1.0}
            one |= groups[j]
            one |= {"outcome": outcomes[j], "pixel_statistics": statistics[j]}
            one |= {"scores": scores[j], "features": kept[j] or None}
            for kind, row in ((FilmRow, film), (IdentifierRow, who), (AnswerRow, answer), (ObservationRow, one)):
                rows[kind].append(row)
        with database.write() as session:
            for kind, values in rows.items():  # as the service writes them: rows of the table, no objects
                session.connection().execute(insert(kind.__table__), values)


class Clock:
    """Wall seconds and seconds of the processor, from one call to the next."""

    def __init__(self) -> None:
        self._last = time.perf_counter(), time.process_time()

    def lap(self) -> dict[str, float]:
        now = time.perf_counter(), time.process_time()
        wall, cpu = (b - a for a, b in zip(self._last, now, strict=True))
        self._last = now
        return {"wall_s": round(wall, 2), "cpu_s": round(cpu, 2)}


def report(records: int, features: int) -> dict[str, Any]:
    """Seconds of each part of a report."""
    with tempfile.TemporaryDirectory() as folder:
        url = f"sqlite:///{Path(folder) / 'hilum.db'}"
        database = Database(url)
        fill(database, records, features)
        database.close()
        clock = Clock()
        with reading(url) as session:
            films = read_observations(session, FINDINGS)
        read = clock.lap()
        at = datetime.fromtimestamp(float(films.at[-1]), UTC)
        watch = seen(films, WatchPlan(owner="benchmark", reference_days=91), at, synthetic=True)
        look = clock.lap()
        page = render_page(monitor_page(watch))
        draw = clock.lap()
    return {
        "records": records,
        "features": features,
        "counted": len(watch.watched.reference) + sum(len(one) for one in watch.watched.spans),
        "looks": len(watch.watched.looks),
        "page_kib": round(len(page) / 1024),
        "parts": {"read": read, "look": look, "page": draw},
        "peak_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
    }


def measure(options: argparse.Namespace, save: Save) -> dict[str, Any]:
    return {"report": report(2_000 if options.smoke else options.records, options.features)}


def write(measured: dict[str, Any]) -> str:
    one = measured["report"]
    parts = one["parts"]
    wall, cpu = (sum(part[key] for part in parts.values()) for key in ("wall_s", "cpu_s"))
    names = {"read": "Reading the records", "look": f"{one['looks']} looks", "page": f"The page, {one['page_kib']} KiB"}
    rows = [[names[name], f"{part['wall_s']:.1f}", f"{part['cpu_s']:.1f}"] for name, part in parts.items()]
    rows.append(["Together", f"{wall:.1f}", f"{cpu:.1f}"])
    busy = " The machine was busy with other work: an idle one takes fewer wall seconds." if wall > 1.5 * cpu else ""
    return (
        f"{head(measured)}\n{one['records']:,} synthetic records with {one['features']} features each, of which "
        f"{one['counted']:,} count (a patient once in two weeks); largest memory {one['peak_mb']:,} MB. Seconds of the "
        f"processor: {verdict(cpu, BAR_S, '.0f', least=False)}.{busy}\n\n"
        f"{table(['', 'wall, s', 'processor, s'], rows)}"
    )


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--records", type=int, default=1_000_000)
    parser.add_argument("--features", type=int, default=64)


if __name__ == "__main__":
    main(__doc__, measure, write, options)
