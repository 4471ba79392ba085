"""The whole way in one command: synthetic films, training, honest testing, a bundle, a live service, answers."""

import contextlib
import shlex
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from hilum.bundle.card import Stated
from hilum.client.answers import StudyAnswer
from hilum.client.api import Client
from hilum.datasets.importing import import_folder
from hilum.datasets.manifest import Manifest
from hilum.datasets.phantom.config import PhantomConfig
from hilum.datasets.phantom.writing import generate
from hilum.datasets.splits import SplitConfig, split
from hilum.errors import ServiceError
from hilum.evaluation.report import Comparison
from hilum.evaluation.verdict import Verdict
from hilum.files import write_json
from hilum.inference.selftest import verify_bundle
from hilum.progress import Progress, Silent
from hilum.provenance import sha256_file
from hilum.runs.audits import audit_run
from hilum.runs.evaluate import Evaluation, evaluate
from hilum.runs.package import package
from hilum.runs.recipes import recipe
from hilum.runs.report import report_run
from hilum.runs.run import Run
from hilum.runs.train import TrainConfig, train_config
from hilum.service.app import Running, running
from hilum.service.dicom.sending import SUCCESS, Peer, send_films
from hilum.service.settings import Settings

SYNTHETIC = (
    "All films are synthetic phantoms, drawn by procedure. The numbers say that the way works from end to end; "
    "they say nothing about patients."
)

FEW_AUDITS = (
    "To keep the demo short its audits ask about the films alone (metadata, borders, corners, sources). hilum evaluate "
    "{run} also shows the network changed films, tests its heat maps, and puts what it finds on this page."
)

STATED = Stated(
    developer="hilum demo, run on this machine",
    release_stage="demonstration: not to be used on films of patients",
    population="None. " + SYNTHETIC,
)
"""What the demo's model card says, since no artefact knows it."""

USER = "demo"
"""Who reads the answers in the story."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoConfig:
    """What the demo draws and trains."""

    phantom: PhantomConfig = field(default_factory=PhantomConfig)
    """The cohort; its first hospital is trained on, its second is the external test."""
    folds: int = 5
    """Members of the ensemble."""
    sent: int = 5
    """Films sent over C-STORE."""
    port: int = 8042
    """Port of REST and page; 0 takes a free one."""
    dicom_port: int = 11112
    """Port of the DICOM listener; 0 takes a free one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """What was trained and measured.

    Attributes:
        run: the run that starts from the shipped encoder.
        internal: its locked test share at the first hospital.
        external: the second hospital.
        verdict: over both.
        report: path of the page.
        comparison: against training from scratch.
    """

    run: Run
    internal: Evaluation
    external: Evaluation
    verdict: Verdict
    report: Path
    comparison: tuple[Comparison, ...]


class Clock:
    """Seconds spent in each step."""

    def __init__(self, said: Callable[[str], None]) -> None:
        self.said = said
        self.seconds: dict[str, float] = {}
        self.started = time.monotonic()

    @contextlib.contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Time a step and say its name."""
        self.said(f"[{time.monotonic() - self.started:5.1f} s] {name}")
        started = time.monotonic()
        yield
        self.seconds[name] = round(time.monotonic() - started, 2)


def tell(
    config: DemoConfig,
    out: Path,
    *,
    stay: bool,
    progress: Progress | None = None,
    said: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Tell the whole story in one folder; what an earlier call finished is kept.

    Args:
        config: what is drawn and trained.
        out: folder of everything.
        stay: keep the service up until SIGINT or SIGTERM, then drain it.
        progress: where progress goes.
        said: told each step in a sentence.

    Returns:
        what was measured, as in ``demo.json``.

    Raises:
        ServiceError: a film sent over C-STORE was refused or not answered.
    """
    progress = progress or Silent()
    clock = Clock(said)
    said(SYNTHETIC)
    development, external = prepare(config, out, clock, progress)
    trained = train_and_test(config, development, external, out, clock, progress)
    bundle = out / "chest.hilum"
    with clock.step("Bundle: export, write, verify"):
        pack(trained.run, bundle, f"demo-{config.phantom.seed}", progress)
    with clock.step("Service: start"):
        stack = contextlib.ExitStack()
        service = stack.enter_context(running(_settings(config, bundle, out)))
    with stack:
        with clock.step(f"C-STORE: {config.sent} films of the second hospital, answers over REST"):
            films = chosen_films(external, config.sent)
            answers = send_and_ask(service, films, let_in(service))
        summary = _summary(trained, bundle, service, films, answers, clock)
        write_json(out / "demo.json", summary)
        for line in story_lines(summary):
            said(line)
        if stay:
            said(f"DICOM:   {summary['dicom']}")
            link = service.room.links.make(USER)
            said(f"Open the page by this link, good for one use: {service.url}/enter?token={link}")
            _wait(service, said)
    said(again(bundle, out))
    return summary


def pack(run: Run, bundle: Path, version: str, progress: Progress) -> None:
    """Write the bundle, whose card names its films as synthetic, and let it prove itself."""
    package(run, bundle, version=version, stated=STATED, progress=progress)
    verify_bundle(bundle)


def again(bundle: Path, out: Path) -> str:
    """How the stopped service is started again, and who then comes in."""
    command = shlex.join(["hilum", "serve", str(bundle), "--data", str(_records(out))])
    return (
        f"The service is stopped. To see its films again: {command}\n"
        "It shows a link, good for one use, where the first admin chooses a name and a password."
    )


def prepare(config: DemoConfig, out: Path, clock: Clock, progress: Progress) -> tuple[Manifest, Manifest]:
    """Draw the cohort, import it, and split the first hospital's films by patient.

    Returns:
        (split manifest of the first hospital, manifest of the second).
    """
    with clock.step(f"Phantoms: {config.phantom.patients} patients, {len(config.phantom.hospitals)} hospitals"):
        generate(config.phantom, out / "films", progress=progress)
    with clock.step("Import: DICOM headers and pixels to a manifest"):
        films, _ = import_folder(out / "films", cache=out / "import.cache", progress=progress)
        films.write(out / "films.parquet")
    with clock.step("Split: by patient, a locked test share and folds"):
        source = films.column("source")
        first, second = config.phantom.hospitals[:2]
        here = films.select(np.flatnonzero(source == first))
        development = split(here, SplitConfig(folds=max(2, config.folds), seed=config.phantom.seed))
        development.write(out / "split.parquet")
        external = films.select(np.flatnonzero(source == second))
        external.write(out / "external.parquet")
    return development, external


def train_and_test(
    config: DemoConfig, development: Manifest, external: Manifest, out: Path, clock: Clock, progress: Progress
) -> Trained:
    """Train from the shipped encoder and from scratch, and test both inside and outside."""
    told = TrainConfig(
        backbone="hilum_small", weights="hilum", recipe=recipe("phantom"), folds=config.folds, seed=config.phantom.seed
    )
    scratch = TrainConfig(
        backbone="hilum_small", weights="none", recipe=recipe("phantom-scratch"), folds=1, seed=config.phantom.seed
    )
    runs = out / "runs"
    with clock.step(f"Train: shipped encoder, head then last block, {config.folds} folds"):
        run = train_config(development, told, runs / "chest", progress=progress)
    with clock.step("Train: the same network from scratch, for comparison"):
        other = train_config(development, scratch, runs / "scratch", progress=progress)
    with clock.step("Test: locked share inside, second hospital outside"):
        tests = {"chest": _both(run, out, progress), "scratch": _both(other, out, progress, doubt=False)}
    inside, outside = tests["chest"]
    comparison = _comparison(
        (
            (f"shipped encoder, {config.folds} folds", run, tests["chest"]),
            ("from scratch, one network", other, tests["scratch"]),
        )
    )
    with clock.step("Audits: ways round the disease"):
        audits = audit_run(run, inside, quick=True, progress=progress)
    with clock.step("Report"):
        page, verdict = report_run(
            run,
            outside,
            internal=inside.scorecard,
            external=outside.scorecard,
            audits=audits,
            comparison=comparison,
            notices=(SYNTHETIC, FEW_AUDITS.format(run=run.path)),
            command="make demo",
        )
    return Trained(
        run=run, internal=inside, external=outside, verdict=verdict, report=page, comparison=tuple(comparison)
    )


def _both(run: Run, out: Path, progress: Progress, *, doubt: bool = True) -> tuple[Evaluation, Evaluation]:
    return (
        evaluate(run, doubt=doubt, progress=progress),
        evaluate(run, on=out / "external.parquet", external=True, doubt=doubt, progress=progress),
    )


def _comparison(rows: Sequence[tuple[str, Run, tuple[Evaluation, Evaluation]]]) -> list[Comparison]:
    return [
        Comparison(
            name=name,
            auroc=done.scorecard.macro_auroc,
            accuracy=done.scorecard.accuracy,
            test=done.scorecard.name,
            seconds=sum(run.result["seconds"].values()),
        )
        for name, run, tests in rows
        for done in tests
    ]


def chosen_films(external: Manifest, count: int) -> list[tuple[Path, str]]:
    """Films to send, each finding in turn, with their labels."""
    labels = external.strings("label")
    paths = external.film_paths()
    rows_of = {name: [i for i, label in enumerate(labels) if label == name] for name in external.labels}
    turns = [row for group in zip(*rows_of.values(), strict=False) for row in group]
    return [(paths[i], labels[i]) for i in turns[:count]]


def let_in(service: Running) -> str:
    """Make the demo's user, a reviewer without a password, and a key of its own for a day.

    Returns:
        the key.
    """
    access = service.room.access
    if USER not in [user.name for user in access.users()]:
        access.add_user(USER, ["reviewer"], password=None, actor=USER)
    return access.add_key(USER, label="the story", days=1, actor=USER)[1]


def send_and_ask(service: Running, films: Sequence[tuple[Path, str]], key: str) -> list[StudyAnswer]:
    """Send films over C-STORE and read the answers over REST, in the order of the films.

    Raises:
        ServiceError: a film was refused, or not answered within a minute.
    """
    settings = service.room.settings
    if service.dicom_port is None:
        raise ServiceError("The demo's service has no DICOM listener. Give --dicom-port.")
    peer = Peer(host=settings.host, port=service.dicom_port, ae_title=settings.ae_title)
    statuses = send_films([path for path, _ in films], peer, calling="DEMO-SCU")
    if any(status != SUCCESS for status in statuses):
        raise ServiceError(f"C-STORE answered {[f'0x{status:04X}' for status in statuses]} instead of success.")
    with Client(service.url, key=key) as client:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            known = {answer.sha256: answer for answer in client.studies()}
            if len(known) >= len(films) and all(answer.finished for answer in known.values()):
                break
            time.sleep(0.1)
        else:
            raise ServiceError("The service did not answer the films within a minute. See the log above.")
        return [client.study(answer.id) for answer in _in_order(known, films)]


def _in_order(known: dict[str, StudyAnswer], films: Sequence[tuple[Path, str]]) -> list[StudyAnswer]:
    """Answers in the order of the films; a file that was rewritten on the way is matched by its SOP instance."""
    by_hash = [known.get(sha256_file(path)) for path, _ in films]
    found = [answer for answer in by_hash if answer is not None]
    return found if len(found) == len(films) else sorted(known.values(), key=lambda answer: answer.received_at)


def _records(out: Path) -> Path:
    return out / "service"


def _settings(config: DemoConfig, bundle: Path, out: Path) -> Settings:
    return Settings(bundle=bundle, data=_records(out), port=config.port, dicom_port=config.dicom_port)


def _summary(
    trained: Trained,
    bundle: Path,
    service: Running,
    films: Sequence[tuple[Path, str]],
    answers: Sequence[StudyAnswer],
    clock: Clock,
) -> dict[str, Any]:
    cards = {"internal": trained.internal.scorecard, "external": trained.external.scorecard}
    return {
        "data": "synthetic phantom films",
        "verdict": trained.verdict.colour,
        "headline": trained.verdict.headline,
        "macro_auroc": {name: card.macro_auroc.text(3) for name, card in cards.items()},
        "auroc": {name: {f: e.text(3) for f, e in card.auroc.items()} for name, card in cards.items()},
        "accuracy": {name: card.accuracy.text(3) for name, card in cards.items()},
        "films": {name: card.films for name, card in cards.items()},
        "localisation": {
            row.name: {"hit_rate": row.hit_rate.text(3), "chance": round(row.chance, 3)}
            for row in trained.external.scorecard.localisation
        },
        "comparison": [
            {"name": row.name, "test": row.test, "macro_auroc": row.auroc.text(3), "seconds": row.seconds}
            for row in trained.comparison
        ],
        "answers": [
            {
                "truth": truth,
                "answer": answer.label or ("to a person" if answer.abstained else answer.state),
                "probability": max(answer.probs.values(), default=None),
                "reasons": list(answer.reasons),
            }
            for (_, truth), answer in zip(films, answers, strict=True)
        ],
        "seconds": {**clock.seconds, "all": round(time.monotonic() - clock.started, 1)},
        "page": f"{service.url}/",
        "dicom": service.dicom,
        "report": str(trained.report),
        "bundle": str(bundle),
    }


def story_lines(summary: dict[str, Any]) -> list[str]:
    """The summary as a short table for a terminal."""
    hit = summary["localisation"].get("all") or next(iter(summary["localisation"].values()), None)
    lines = ["", f"{'test':<10}{'films':>6}  macro AUROC            accuracy"]
    for name in ("internal", "external"):
        row = f"{name:<10}{summary['films'][name]:>6}  {summary['macro_auroc'][name]:<22} {summary['accuracy'][name]}"
        lines.append(row)
    if hit:
        lines.append(f"heat map inside the lesion (external): {hit['hit_rate']}, chance {hit['chance']}")
    lines += [f"{r['name']}, {r['test']}: {r['macro_auroc']} in {r['seconds']:.0f} s" for r in summary["comparison"]]
    lines += ["", f"{'film':<12}{'answer over REST':<20}probability"]
    for answer in summary["answers"]:
        probability = "–" if answer["probability"] is None else f"{answer['probability']:.2f}"
        lines.append(
            f"{answer['truth']:<12}{answer['answer']:<20}{probability}  {' '.join(answer['reasons'])}".rstrip()
        )
    lines += [
        "",
        f"verdict: {summary['verdict']}: {summary['headline']}",
        f"report:  {summary['report']}",
        f"all of it in {summary['seconds']['all']} s. Synthetic films; assistive, not for diagnosis.",
    ]
    return lines


def _wait(service: Running, said: Callable[[str], None]) -> None:
    """Stay until SIGINT or SIGTERM; leaving the service's context drains it."""
    stop = threading.Event()
    before = {s: signal.signal(s, lambda *_: stop.set()) for s in (signal.SIGINT, signal.SIGTERM)}
    said("The service stays up; Ctrl-C finishes what is in work and stops it.")
    try:
        while not stop.wait(0.2) and not service.room.intake.broken:
            pass
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    said("Stopping: finishing what is in work.")
