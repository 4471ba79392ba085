"""A clinic's whole story in one command: films, answers, an override, drift, a change under its plan, and a way back.

Phantom films and models are kept in the folder, and a second call goes on from there. The clinic itself (database,
PACS, records, labels) always starts clean; what a killed story left running is stopped first.
"""

import contextlib
import os
import shutil
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from hilum.datasets.importing import import_folder
from hilum.datasets.manifest import Manifest
from hilum.datasets.phantom.config import PhantomConfig
from hilum.datasets.phantom.writing import generate
from hilum.datasets.splits import SplitConfig, split
from hilum.demo import clinic_back, clinic_change, clinic_days, clinic_proof
from hilum.demo.clinic_page import clinic_page
from hilum.demo.clinic_proof import Found
from hilum.demo.orthanc import orthanc_program
from hilum.demo.postgres import programs
from hilum.demo.programs import stop_left_over
from hilum.demo.room import Film, Room, open_room
from hilum.demo.sender import Sender
from hilum.demo.story import SYNTHETIC, pack
from hilum.demo.telling import Telling
from hilum.errors import ConfigError, HilumError, ServiceError
from hilum.files import write_json, write_text
from hilum.progress import Progress, Silent
from hilum.reports.page import render_page
from hilum.runs.evaluate import evaluate
from hilum.runs.recipes import recipe
from hilum.runs.run import Run
from hilum.runs.train import TrainConfig, train_config

SOURCES = ("archive", "room-2", "room-1")
"""Where films are from: those of the archive, which the model is made from, are of the scanner of room 1; room 2 has a
new one. The order says which (:data:`hilum.datasets.phantom.config.DEVICES` in turn)."""


STILL = b"hilum: still stopping: a program that is left running keeps its port and its files.\n"

LEAST = 120
"""Fewer films of a room are not enough for every step."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClinicConfig:
    """How large the story is."""

    patients: int = 540
    """Synthetic patients, each with one film: a third of them in the archive, and a third in each room."""
    locked_share: float = 0.4
    """Share of the archive that is the locked test set: large, so that the gate can tell small losses from chance."""
    size: int = 256
    """Rows of a film."""
    difficulty: float = 0.5
    """How faint lesions are."""
    folds: int = 2
    """Members of an ensemble."""
    seed: int = 0
    """Of all chance."""

    def __post_init__(self) -> None:
        if self.patients < LEAST * len(SOURCES):
            least = LEAST * len(SOURCES)
            raise ConfigError([f"patients is {self.patients}, but the clinic's story needs {least} or more."])

    @property
    def each(self) -> int:
        """Films of the archive, and of each room."""
        return self.patients // len(SOURCES)

    @property
    def reference(self) -> int:
        """Films that are the monitor's reference."""
        return self.each // 3

    @property
    def look(self) -> int:
        """Films of a look of the monitor."""
        return self.each // 6

    @property
    def phantom(self) -> PhantomConfig:
        """The cohort."""
        return PhantomConfig(
            patients=self.each * len(SOURCES),
            size=self.size,
            difficulty=self.difficulty,
            seed=self.seed,
            hospitals=SOURCES,
            second_film_share=0,
        )


@dataclass(slots=True, kw_only=True)
class Made:
    """What the story begins with."""

    run: Run
    """The first model's run."""
    bundle: Path
    """The first model."""
    development: Manifest
    """Films of the archive, that it was made from, split."""
    waiting: dict[str, list[Film]] = field(default_factory=dict)
    """By room, films that have not arrived yet, in their order."""

    def take(self, room: str, count: int) -> list[Film]:
        """The next films of a room.

        Raises:
            ServiceError: there are no more.
        """
        films = self.waiting[room]
        if len(films) < count:
            raise ServiceError(f"{room} has {len(films)} films left, and {count} are needed. Draw more of each.")
        self.waiting[room] = films[count:]
        return films[:count]


def tell_clinic(
    config: ClinicConfig,
    out: Path,
    *,
    stay: bool,
    environment: Mapping[str, str],
    progress: Progress | None = None,
    said: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Tell the whole story in one folder.

    Args:
        config: how large it is.
        out: folder of everything.
        stay: keep the clinic up after the story until SIGINT or SIGTERM.
        environment: that hilum's programs are run in; a site's own settings (``HILUM_…``) are left out.
        progress: where progress goes.
        said: told each step in sentences.

    Returns:
        what was checked and measured, as in ``clinic.json``; ``passed`` says whether every check did.

    Raises:
        UsageError: PostgreSQL, its driver or Orthanc is missing; before anything is made.
        HilumError: a step failed so that the story couldn't go on; what was told until then is written.
    """
    programs(), orthanc_program()
    telling = Telling(said)
    said(SYNTHETIC)
    out.mkdir(parents=True, exist_ok=True)
    with _ending_well(), contextlib.ExitStack() as stack:
        try:
            room, found = _told(config, out, environment, telling, stack, progress or Silent())
        except HilumError as error:
            _written(out, telling, (), str(error))
            raise
        except KeyboardInterrupt:
            said("Interrupted: stopping the service, Orthanc and PostgreSQL, if they run.")
            _written(out, telling, (), "It was interrupted before its end.")
            raise
        summary = _written(out, telling, found)
        if stay:
            said(f"The clinic stays up until Ctrl-C. Read as ada, password {room.passwords['ada']}, at {room.url}/")
            with contextlib.suppress(KeyboardInterrupt):
                threading.Event().wait()
            said("Stopping all of it.")
    return summary


def _written(out: Path, telling: Telling, found: tuple[Found, ...], failed: str = "") -> dict[str, Any]:
    """Write what was told, as JSON and as a page."""
    summary = {
        "data": "synthetic phantom films",
        "passed": telling.passed and not failed,
        "steps": [
            {
                "name": step.name,
                "passed": step.passed,
                "seconds": step.seconds,
                "checks": [{"sentence": one.sentence, "passed": one.passed} for one in step.checks],
                "measured": dict(step.measured),
            }
            for step in telling.steps
        ],
        "failures": list(telling.failures),
    }
    write_json(out / "clinic.json", summary)
    seen = [(out / "clinic" / "override.png", "An override", "A reader's page just before the review is saved.")]
    write_text(out / "clinic.html", render_page(clinic_page(telling, seen, found, failed=failed)))
    return summary


def _told(
    config: ClinicConfig,
    out: Path,
    environment: Mapping[str, str],
    telling: Telling,
    stack: contextlib.ExitStack,
    progress: Progress,
) -> tuple[Room, tuple[Found, ...]]:
    """Every step; what runs is stopped with the stack."""
    made = make_model(config, out, telling, progress)
    folder = out / "clinic"
    with telling.step("Clinic: PostgreSQL, Orthanc, users and the service") as step:
        for name in stop_left_over(folder):
            step.measure("stopped, left over from a killed story", name)
        if folder.exists():
            shutil.rmtree(folder)
        folder.mkdir()
        room = stack.enter_context(open_room(folder, made.bundle, environment, step))
    with telling.step("Plan: what may change, written and keyed before anything does") as step:
        plan = clinic_change.write_plan(step, made, room)
    drifted = clinic_days.told(config, made, room, telling)
    change = clinic_change.told(made, room, plan, drifted, telling)
    sender = stack.enter_context(Sender(room.client("mia", patience_s=0), made.take("room-1", 12)))
    clinic_change.rolled_out(made, room, change, telling)
    clinic_back.told(made, room, change, sender, telling)
    return room, clinic_proof.told(room, change, telling)


@contextlib.contextmanager
def _ending_well() -> Iterator[None]:
    """SIGTERM ends the story as Ctrl-C does; a second one doesn't keep its programs from being stopped."""
    ending = False

    def interrupt(*_: object) -> None:
        nonlocal ending
        if ending:
            os.write(2, STILL)  # a print may be what was interrupted
            return
        ending = True
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def make_model(config: ClinicConfig, out: Path, telling: Telling, progress: Progress) -> Made:
    """Draw all films, and make the first model from the archive's; what an earlier call finished is kept."""
    phantom = config.phantom
    with telling.step(f"Phantoms: {phantom.patients} patients of an archive and two X-ray rooms") as step:
        generate(phantom, out / "films", progress=progress)
        films, _ = import_folder(out / "films", cache=out / "import.cache", progress=progress)
        sources, patients = films.strings("source"), films.strings("patient_id")
        order = sorted(range(len(films)), key=lambda row: patients[row])
        rows = {source: [row for row in order if sources[row] == source] for source in SOURCES}
        step.measure("films each", ", ".join(f"{source} {len(some)}" for source, some in rows.items()))
    with telling.step("First model: from the archive, with a locked test set") as step:
        settings = SplitConfig(folds=max(2, config.folds), seed=config.seed, test_share=config.locked_share)
        development = split(films.select(rows["archive"]), settings)
        development.write(out / "split.parquet")
        run = train_config(development, training(config), out / "runs" / "first", progress=progress)
        bundle, tested = out / "first.hilum", out / "first.txt"
        if not tested.exists():  # the locked test set is opened once
            write_text(tested, evaluate(run, doubt=False, progress=progress).scorecard.macro_auroc.text(3))
        step.measure("macro AUROC on the locked test set", tested.read_text("utf-8"))
        if not bundle.exists():
            pack(run, bundle, "1", progress)
        step.check(bundle.exists(), f"the bundle {bundle.name} verified itself")
    waiting = {room: _films(films, rows[room]) for room in ("room-1", "room-2")}
    return Made(run=run, bundle=bundle, development=development, waiting=waiting)


def training(config: ClinicConfig) -> TrainConfig:
    """How models of the story are trained."""
    return TrainConfig(
        backbone="hilum_small", weights="hilum", recipe=recipe("phantom"), folds=config.folds, seed=config.seed
    )


def _films(films: Manifest, rows: list[int]) -> list[Film]:
    some = films.select(np.array(rows))
    columns = (some.film_paths(), some.strings("label"), some.strings("patient_id"))
    return [Film(path=path, label=label, patient_id=patient) for path, label, patient in zip(*columns, strict=True)]
