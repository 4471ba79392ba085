"""A monitor's report over many records, and what keeping a record costs beside the answer that it is of.

Run: OMP_NUM_THREADS=2 python benchmarks/monitor_report.py [--records 1000000] [--features 64]

Records are synthetic (``monitoring.simulation``): a year and a half at a large site, drawn once for 20,000 films and
repeated, every third film being of the patient of the film before. They lie in SQLite as the service writes them. Wall
seconds on an idle machine are what a person waits; seconds of the processor stand beside them, since a busy machine
changes only the former. What an observation costs: 400 answers are recorded with and without it, in turn, and the
difference in seconds of the processor is set against one film in the model (``--inference-ms``).
"""

import argparse
import json
import resource
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from _section import Save, head, main, spread, table, verdict
from sqlalchemy import insert

from hilum.monitoring.plan import WatchPlan
from hilum.monitoring.report import monitor_page, seen
from hilum.monitoring.simulation import DAY_S, FINDINGS, START, Site, simulate
from hilum.records.database import Database
from hilum.records.observations import OUTCOMES, read_observations
from hilum.records.proving import reading
from hilum.records.schema import AnswerRow, FilmRow, IdentifierRow, ObservationRow
from hilum.records.store import Store
from hilum.records.values import Identity, NewAnswer, NewFilm, NewObservation
from hilum.reports.page import render_page

DAYS = 540
AT_ONCE = 20_000
BAR_S, BAR_SHARE = 60.0, 0.02
INFERENCE_MS = 31.0
"""One film in the DenseNet-121 of the clinic at 224 × 224 on two cores; the section on one pass has it measured."""


def fill(database: Database, records: int, features: int) -> None:
    """Records as the service writes them, spread over :data:`DAYS`."""
    films = simulate(Site(films_a_day=1000), 20, np.random.default_rng(0))
    blank = np.zeros(features, dtype="<f2")
    step = DAYS * DAY_S / records
    for start in range(0, records, AT_ONCE):
        rows: dict[Any, list[dict[str, Any]]] = {FilmRow: [], IdentifierRow: [], AnswerRow: [], ObservationRow: []}
        for i in range(start, min(records, start + AT_ONCE)):
            j = i % len(films)
            at, key = datetime.fromtimestamp(START + i * step, UTC), f"{i:032x}"
            refused = bool(np.isnan(films.scores[j]).any())
            film = {"id": key, "received_at": at, "origin": "dicom", "calling_ae": "", "format": "dicom", "size": 1}
            film |= {"content_sha256": f"{i:064x}", "file_sha256": f"{i:064x}", "attempts": 1, "state": "answered"}
            patient = f"{i - (i % 3 == 2):032x}"
            who = {"film_id": key, "key_id": "", "sealed": b"", "patient_index": patient, "accession_index": ""}
            answer = {"id": key, "film_id": key, "model_sha256": "a" * 64, "created_at": at + timedelta(seconds=1)}
            answer |= {"label": None, "abstained": False, "risk": 0.5, "assessment": '{"findings":[]}'}
            one = {"answer_id": key, "observed_at": at, "model_sha256": "a" * 64, "seconds": 1.0}
            one |= {name: group.levels[group.codes[j]] for name, group in films.groups.items()}
            kept = np.resize(films.features[j], features).astype("<f2") if features else blank
            one |= {"outcome": OUTCOMES[films.outcome[j]], "pixel_statistics": films.statistics[j].tobytes()}
            one |= {"scores": None if refused else films.scores[j].tobytes(), "features": kept.tobytes() or None}
            for kind, row in ((FilmRow, film), (IdentifierRow, who), (AnswerRow, answer), (ObservationRow, one)):
                rows[kind].append(row)
        with database.write() as session:
            for kind, values in rows.items():
                session.execute(insert(kind), values)


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


def recorded(observed: bool, features: int, answers: int) -> dict[str, float]:
    """Milliseconds an answer, from claim to record."""
    films = simulate(Site(), 20, np.random.default_rng(0))
    with tempfile.TemporaryDirectory() as folder:
        database = Database(f"sqlite:///{Path(folder) / 'hilum.db'}")
        store = Store(database)
        for i in range(answers):
            digest = f"{i:064x}"
            store.receive(NewFilm(content_sha256=digest, file_sha256=digest, size=1, format="dicom", origin="rest"))
        clock = Clock()
        for i in range(answers):
            claim = store.claim("me", lease_s=600, max_attempts=3)
            assert claim is not None
            answer = NewAnswer(
                model_sha256="a" * 64,
                analysed=True,
                label="normal",
                abstained=False,
                risk=0.1,
                assessment={},
                observation=_observation(films, i, features) if observed else None,
            )
            store.record_answer(claim.film_id, "me", Identity(), answer)
        seconds = clock.lap()
        database.close()
    return {name: 1000 * value / answers for name, value in seconds.items()}


def _observation(films: Any, i: int, features: int) -> NewObservation:
    return NewObservation(
        outcome="answered",
        device="Detector A",
        view_position="PA",
        sex="F",
        age_band="40-49",
        size_class="2x3",
        statistics=films.statistics[i].astype("<f4").tobytes(),
        scores=films.scores[i].astype("<f4").tobytes(),
        features=np.resize(films.features[i], features).astype("<f2").tobytes(),
    )


def measure(options: argparse.Namespace, save: Save) -> dict[str, Any]:
    records, answers, rounds = (2_000, 20, 1) if options.smoke else (options.records, 400, 7)
    kept_report = json.loads(options.report_of.read_text())["report"] if options.report_of else None
    found: dict[str, Any] = {"report": kept_report or report(records, options.features)}
    found["inference_ms"] = options.inference_ms
    save(found)
    kept: dict[str, list[dict[str, float]]] = {"without": [], "with": []}
    for _ in range(rounds):
        for name, times in kept.items():
            times.append(recorded(name == "with", options.features, answers))
    found["record"] = {name: {key: [one[key] for one in times] for key in times[0]} for name, times in kept.items()}
    return found


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
        f"{table(['', 'wall, s', 'processor, s'], rows)}\n{_cost(measured)}"
    )


def _cost(measured: dict[str, Any]) -> str:
    """What keeping an observation costs."""
    record, model = measured.get("record"), measured["inference_ms"]
    if record is None:
        return "What keeping an observation costs was not measured.\n"
    cost = [
        [f"{name} an observation", *(spread(record[name][key], ".2f") for key in ("wall_s", "cpu_s"))]
        for name in record
    ]
    more = max(0.0, median(record["with"]["cpu_s"]) - median(record["without"]["cpu_s"]))
    met = verdict(100 * more / model, 100 * BAR_SHARE, ".0f", least=False)
    unsure = min(record["with"]["cpu_s"]) <= max(record["without"]["cpu_s"])
    noise = " The ranges overlap: what else the machine did changed more than the observation." if unsure else ""
    return (
        f"Recording an answer, from claim to commit, with what the monitor keeps of it and without:\n\n"
        f"{table(['', 'wall, ms', 'processor, ms'], cost)}\n"
        f"The difference is {more:.2f} ms of the processor, where one film takes {model:g} ms in the model: "
        f"{100 * more / model:.1f} %. Per cent: {met}.{noise}\n"
    )


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--records", type=int, default=1_000_000)
    parser.add_argument("--features", type=int, default=64)
    parser.add_argument("--report-of", type=Path, help="keep the report of this file, and measure the cost alone anew")
    parser.add_argument("--inference-ms", type=float, default=INFERENCE_MS)


if __name__ == "__main__":
    main(__doc__, measure, write, options)
