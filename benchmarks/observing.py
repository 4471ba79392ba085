"""What watching costs beside answering, in seconds of the processor.

Run: OMP_NUM_THREADS=2 python benchmarks/observing.py [--films 1500] [--features 64]

All in one process, and in processor time, which waits for nobody: the difference of two whole runs drowned in what else
a machine did. Three things are measured of one film each:

answering   a phantom film that was read already, through a DenseNet-121 with random weights and all its outputs
observing   what the monitor is given of the answer, made from the film and the answer (``service.observing``)
keeping     its row beside the answer's: answers are recorded in pairs, one with an observation and one without, in an
            order of chance, one transaction each; the mean of the pairs' differences, with its 95 % interval

Each answer in a transaction of its own is the dearest way: several that are ready at once share one. Reading the film
isn't counted as answering, which makes the share larger than it is in service.
"""

import argparse
import math
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from _one_film import film_of
from _section import Save, head, main, spread, table, verdict
from one_pass import bundle_of, classifier_of

from hilum.inference.assess import open_bundle
from hilum.inference.machine import available_cpus
from hilum.models.explained import Explained
from hilum.models.export import export_onnx
from hilum.records.database import Database
from hilum.records.store import Store
from hilum.records.values import Identity, NewAnswer, NewFilm, NewObservation
from hilum.service.observing import observation_of

BAR_SHARE = 0.02
ROUNDS = 5


def processor_ms(run: Callable[[], object], times: int) -> list[float]:
    """Milliseconds of the processor of one run, in each of :data:`ROUNDS` rounds."""
    run()
    found = []
    for _ in range(ROUNDS):
        started = time.process_time()
        for _ in range(times):
            run()
        found.append(1000 * (time.process_time() - started) / times)
    return found


def answering(options: argparse.Namespace) -> tuple[dict[str, Any], NewObservation]:
    """Milliseconds of one answer and of its observation; and such an observation."""
    model = export_onnx(Explained([classifier_of(options)]))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "film.dcm"
        path.write_bytes(film_of(256 if options.smoke else 1024, "explicit-le"))
        with open_bundle(bundle_of(model, options.size, Path(folder) / "timed.hilum"), available_cpus()) as opened:
            film = opened.prepare(path)
            answer = opened.assess_prepared([film])[0]
            ms = {
                "answering": processor_ms(lambda: opened.assess_prepared([film]), 1 if options.smoke else 20),
                "observing": processor_ms(
                    lambda: observation_of(film, answer, fingerprints=True), 10 if options.smoke else 2000
                ),
            }
            seen = observation_of(film, answer, fingerprints=True)
    kept = np.resize(np.frombuffer(seen.features or b"\0\0", "<f2"), options.features)
    return ms, replace(seen, features=kept.astype("<f2").tobytes())


def keeping(seen: NewObservation, pairs: int) -> dict[str, list[float]]:
    """Milliseconds of recording an answer, with and without an observation, pair by pair."""
    found: dict[str, list[float]] = {"without": [], "with": []}
    chance = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        database = Database(f"sqlite:///{Path(folder) / 'hilum.db'}")
        store = Store(database)
        for number in range(2 * (pairs + 1)):
            digest = f"{number:064x}"
            store.receive(NewFilm(content_sha256=digest, file_sha256=digest, size=1, format="dicom", origin="rest"))
        for pair in range(pairs + 1):
            for name in chance.permutation(["without", "with"]):
                took = _recorded(store, seen if name == "with" else None)
                if pair:  # the first one fills caches
                    found[str(name)].append(took)
        database.close()
    return found


def _recorded(store: Store, seen: NewObservation | None) -> float:
    claim = store.claim("me", lease_s=600, max_attempts=3)
    assert claim is not None
    answer = NewAnswer(
        model_sha256="a" * 64,
        analysed=True,
        label="normal",
        abstained=False,
        risk=0.1,
        assessment={},
        observation=seen,
    )
    started = time.process_time()
    store.record_answer(claim.film_id, "me", Identity(), answer)
    return 1000 * (time.process_time() - started)


def measure(options: argparse.Namespace, save: Save) -> dict[str, Any]:
    if options.smoke:
        options.backbone, options.size, options.films = "hilum_small", 64, 20
    ms, seen = answering(options)
    found: dict[str, Any] = {"backbone": options.backbone, "size": options.size, "features": options.features, "ms": ms}
    save(found)
    both = keeping(seen, options.films)
    apart = [with_it - without for with_it, without in zip(both["with"], both["without"], strict=True)]
    mean, error = statistics.fmean(apart), statistics.stdev(apart) / math.sqrt(len(apart))
    recording = {name: statistics.median(times) for name, times in both.items()}
    found["keeping"] = {"pairs": len(apart), "mean": mean, "low": mean - 1.96 * error, "high": mean + 1.96 * error}
    found["recording"] = recording
    return found


def write(measured: dict[str, Any]) -> str:
    ms, kept = measured["ms"], measured["keeping"]
    one, seen = (statistics.median(ms[name]) for name in ("answering", "observing"))
    share, most = (100 * (seen + kept[bound]) / one for bound in ("mean", "high"))
    rows = [
        ["answering", spread(ms["answering"], ".1f")],
        ["observing", spread(ms["observing"], ".3f")],
        ["keeping, 95 % interval of the mean", f"{kept['mean']:.3f} ({kept['low']:.3f}–{kept['high']:.3f})"],
    ]
    return (
        f"{head(measured)}\nOne film through {measured['backbone']} at {measured['size']} × {measured['size']}, with "
        f"{measured['features']} features kept of it; random weights, a synthetic film, {kept['pairs']:,} pairs of "
        f"answers.\n\n{table(['', 'processor, ms'], rows)}\nWatching takes {share:.2f} % of what answering takes; with "
        f"the upper bound of keeping {most:.2f} %. Per cent: {verdict(most, 100 * BAR_SHARE, '.0f', least=False)}.\n"
    )


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--backbone", default="densenet121")
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--features", type=int, default=64)
    parser.add_argument("--films", type=int, default=1500, help="pairs of answers")


if __name__ == "__main__":
    main(__doc__, measure, write, add)
