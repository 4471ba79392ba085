"""A monitor's report over many records: seconds of reading and looking, and memory; and what keeping a record costs.

Run: OMP_NUM_THREADS=2 python benchmarks/monitor_report.py [--records 1000000] [--features 64]

Records are synthetic (``monitoring.simulation``): a year and a half at a large site, drawn once for 20,000 films and
repeated. They lie in SQLite as the service writes them. The promise: a report over a million records within 60 s, and
keeping what an answer looked like within 2 % of inference: 400 answers are recorded with and without it, and the
difference is set against the time of one film in the model (``--inference-ms``: 31 ms is DenseNet-121 at 224 × 224 on
two cores, see docs/benchmarks.md; measure your own with hilum doctor).
"""

import argparse
import json
import resource
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from sqlalchemy import insert

from hilum.monitoring.plan import WatchPlan
from hilum.monitoring.report import monitor_page, seen
from hilum.monitoring.simulation import DAY_S, FINDINGS, START, Site, simulate
from hilum.records.database import Database
from hilum.records.observations import OUTCOMES, read_observations
from hilum.records.proving import reading
from hilum.records.schema import AnswerRow, FilmRow, ObservationRow
from hilum.records.store import Store
from hilum.records.values import Identity, NewAnswer, NewFilm, NewObservation
from hilum.reports.page import render_page

DAYS = 540
AT_ONCE = 20_000


def fill(database: Database, records: int, features: int) -> None:
    """Records as the service writes them, spread over :data:`DAYS`."""
    films = simulate(Site(films_a_day=1000), 20, np.random.default_rng(0))
    blank = np.zeros(features, dtype="<f2")
    step = DAYS * DAY_S / records
    for start in range(0, records, AT_ONCE):
        rows: dict[Any, list[dict[str, Any]]] = {FilmRow: [], AnswerRow: [], ObservationRow: []}
        for i in range(start, min(records, start + AT_ONCE)):
            j = i % len(films)
            at, key = datetime.fromtimestamp(START + i * step, UTC), f"{i:032x}"
            refused = bool(np.isnan(films.scores[j]).any())
            film = {"id": key, "received_at": at, "origin": "dicom", "calling_ae": "", "format": "dicom", "size": 1}
            film |= {"content_sha256": f"{i:064x}", "file_sha256": f"{i:064x}", "attempts": 1, "state": "answered"}
            answer = {"id": key, "film_id": key, "model_sha256": "a" * 64, "created_at": at + timedelta(seconds=1)}
            answer |= {"label": None, "abstained": False, "risk": 0.5, "assessment": '{"findings":[]}'}
            one = {"answer_id": key, "observed_at": at, "model_sha256": "a" * 64, "seconds": 1.0}
            one |= {name: group.levels[group.codes[j]] for name, group in films.groups.items()}
            kept = np.resize(films.features[j], features).astype("<f2") if features else blank
            one |= {"outcome": OUTCOMES[films.outcome[j]], "pixel_statistics": films.statistics[j].tobytes()}
            one |= {"scores": None if refused else films.scores[j].tobytes(), "features": kept.tobytes() or None}
            for table, row in ((FilmRow, film), (AnswerRow, answer), (ObservationRow, one)):
                rows[table].append(row)
        with database.write() as session:
            for table, values in rows.items():
                session.execute(insert(table), values)


def measure(records: int, features: int) -> dict[str, Any]:
    """Seconds of each part."""
    with tempfile.TemporaryDirectory() as folder:
        url = f"sqlite:///{Path(folder) / 'hilum.db'}"
        database = Database(url)
        fill(database, records, features)
        database.close()
        started = time.perf_counter()
        with reading(url) as session:
            films = read_observations(session, FINDINGS)
        read = time.perf_counter()
        at = datetime.fromtimestamp(float(films.at[-1]), UTC)
        watch = seen(films, WatchPlan(owner="benchmark", reference_days=91), at, synthetic=True)
        page = render_page(monitor_page(watch))
        done = time.perf_counter()
    return {
        "records": records,
        "features": features,
        "looks": len(watch.watched.looks),
        "page_kib": round(len(page) / 1024),
        "read_s": round(read - started, 2),
        "look_s": round(done - read, 2),
        "report_s": round(done - started, 2),
        "peak_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
    }


def recorded(observed: bool, features: int, answers: int = 400) -> float:
    """Milliseconds an answer, from claim to record."""
    films = simulate(Site(), 20, np.random.default_rng(0))
    with tempfile.TemporaryDirectory() as folder:
        database = Database(f"sqlite:///{Path(folder) / 'hilum.db'}")
        store = Store(database)
        for i in range(answers):
            digest = f"{i:064x}"
            store.receive(NewFilm(content_sha256=digest, file_sha256=digest, size=1, format="dicom", origin="rest"))
        started = time.perf_counter()
        for i in range(answers):
            claim = store.claim("me", lease_s=600, max_attempts=3)
            assert claim is not None
            seen_one = NewObservation(
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
            answer = NewAnswer(
                model_sha256="a" * 64,
                analysed=True,
                label="normal",
                abstained=False,
                risk=0.1,
                assessment={},
                observation=seen_one if observed else None,
            )
            store.record_answer(claim.film_id, "me", Identity(), answer)
        seconds = time.perf_counter() - started
        database.close()
    return 1000 * seconds / answers


def cost(features: int, inference_ms: float) -> dict[str, float]:
    """What keeping observations costs, beside the time of one film in the model; the better of three each."""
    without, kept = (min(recorded(observed, features) for _ in range(3)) for observed in (False, True))
    share = max(0.0, kept - without) / inference_ms
    return {"record_ms": round(without, 3), "record_observed_ms": round(kept, 3), "share_of_inference": round(share, 4)}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=1_000_000)
    parser.add_argument("--features", type=int, default=64)
    parser.add_argument("--inference-ms", type=float, default=31.0)
    arguments = parser.parse_args()
    found = measure(arguments.records, arguments.features) | cost(arguments.features, arguments.inference_ms)
    print(json.dumps(found, indent=1))
