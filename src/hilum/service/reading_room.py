"""The service put together: records, door, workers and listener, opened and closed as one."""

import contextlib
import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from hilum.errors import ServiceError
from hilum.files import take_lock
from hilum.records.access import Access, SessionTimes
from hilum.records.alarms import Alarms
from hilum.records.backlog import backlog
from hilum.records.database import Database
from hilum.records.events import Events
from hilum.records.former_films import FormerFilms
from hilum.records.holdings import newest_files
from hilum.records.key_change import bring_under_key
from hilum.records.labelling import Labelling
from hilum.records.labelling_batches import LabelBatches
from hilum.records.look_ups import LookUps, PriorsPolicy
from hilum.records.registry import Registry
from hilum.records.results_out import Outbox
from hilum.records.reviews import Reviews
from hilum.records.store import Store, now
from hilum.records.study_reading import ReaderStudies
from hilum.records.worklist import Worklist
from hilum.service.anchors import Anchors
from hilum.service.announcements import Announcements
from hilum.service.answering import Answering, Drawing, Model
from hilum.service.backup_folder import require_finished
from hilum.service.dicom.loading import load
from hilum.service.dicom.strangers import Strangers
from hilum.service.dicomweb.room import DicomWeb, make_dicomweb, open_dicomweb
from hilum.service.doors import Door, Links, Throttle
from hilum.service.film_files import NEWEST, FilmFiles, films_elsewhere
from hilum.service.following import Streams
from hilum.service.former_reading import FormerReading
from hilum.service.health import Health, look
from hilum.service.intake import Intake
from hilum.service.logs import logger
from hilum.service.metrics import Metrics
from hilum.service.pictures import PictureCache
from hilum.service.pressure import Pressure
from hilum.service.rekeying import Rekeying
from hilum.service.settings import MIB, Settings
from hilum.service.upkeep import Upkeep
from hilum.service.witness import Witness, open_witness
from hilum.service.workflow import Workflow

if TYPE_CHECKING:
    from hilum.service.dicom.listener_process import ListenerProcess
    from hilum.service.looking_back import LookingBack
    from hilum.service.results_out import ResultsOut
    from hilum.service.switching import Switch


@dataclass(slots=True, kw_only=True)
class ReadingRoom:
    """Everything that the doors (REST, page, DICOM) share."""

    settings: Settings
    store: Store
    answering: Answering
    drawing: Drawing
    intake: Intake
    workflow: Workflow
    announcements: Announcements
    database: Database
    access: Access
    reviews: Reviews
    studies: ReaderStudies
    worklist: Worklist
    labelling: Labelling
    label_batches: LabelBatches
    anchors: Anchors
    metrics: Metrics
    events: Events
    streams: Streams
    dicomweb: DicomWeb
    links: Links = field(default_factory=Links)
    own_passwords: Links = field(default_factory=Links)
    throttle: Throttle = field(default_factory=Throttle)
    door: Door = field(default_factory=Door)
    strangers: Strangers = field(default_factory=Strangers)
    last_seen: dict[str, int] = field(default_factory=dict)
    witness: Witness | None = None
    pictures: PictureCache = field(default_factory=PictureCache)
    outbox: Outbox
    switch: "Switch | None" = None
    senders: "ResultsOut | None" = None
    look_ups: LookUps
    alarms: Alarms
    looking_back: "LookingBack | None" = None
    listener: "ListenerProcess | None" = None
    upkeep: Upkeep | None = None
    former_reading: FormerReading | None = None
    rekeying: Rekeying | None = None
    erasing: threading.Lock = field(default_factory=threading.Lock)
    stopping: bool = False

    def health(self) -> Health:
        """Is every part well?"""
        return look(
            ping_records=self.store.ping,
            storage_broken=self.intake.broken,
            stopping=self.stopping,
            films_folder=str(self.intake.files.films),
            least_free_bytes=self.intake.least_free_bytes,
            model_trouble=self.answering.trouble or (self.switch.behind if self.switch else None),
            audit_broken=self.witness.broken if self.witness else None,
            listener=self.settings.dicom_port is not None,
            listener_trouble=self.listener.trouble if self.listener else "The DICOM listener is not running.",
        )

    def model_changed(self, model: Model) -> None:
        """Another model is in production: a film that it has not answered is answered anew when it is sent again."""
        self.intake.model_sha256 = model.sha256

    def stop_accepting(self) -> None:
        """First step of a drain: nothing more comes in."""
        self.stopping = True
        self.intake.stop()


@contextlib.contextmanager
def open_reading_room(
    settings: Settings, answering: Answering | None = None, drawing: Drawing | None = None
) -> Iterator[ReadingRoom]:
    """Open the records, start the workers and the DICOM listener; on leaving, drain and close.

    Args:
        settings: what it needs to know.
        answering: the model; None for what the records have in production, at first ``settings.bundle``.
        drawing: what draws films and heat maps; None draws with :mod:`hilum.imaging`.

    Raises:
        ServiceError: the data folder is in use or not writable, the database can't be used, or a port is taken.
        BundleError: the model can't be trusted or loaded.
    """
    with contextlib.ExitStack() as stack:
        stack.enter_context(_sole_use(settings.data))
        switch: Switch | None = None
        restarted = _Restarts()
        if answering is None or drawing is None:
            from hilum.service.bundled import open_sandbox, wake
            from hilum.service.switching import make_switch

            sandbox = stack.enter_context(open_sandbox(settings))  # its child starts while the records open
        database = Database(settings.url, settings.keyring)
        stack.callback(database.close)
        sealed = bring_under_key(database, now)
        if sealed:
            logger().info("records encrypted", rows=sealed)
        if answering is None or drawing is None:
            registry = Registry(database, plan_in_force=settings.plan_in_force)
            switch = make_switch(settings, sandbox, registry, restarted)
            stack.callback(switch.close)
            switch.begin(settings.bundle)
            load()  # while the children do the same
            wake(sandbox)
            answering, drawing = answering or switch, drawing or switch
        load()  # before there are threads that might, two at once
        room = _assemble(settings, database, answering, drawing)
        restarted.tells = room.metrics.model_restarted
        if switch is not None:
            room.switch, switch.changed = switch, room.model_changed
        _refuse_without_admin(settings, room.access)
        room.witness = open_witness(settings, database)
        stack.callback(room.witness.stop)
        logger().info("records open", database=database.product, protection=database.protection)
        with database.read() as session:
            elsewhere = films_elsewhere(settings.data, newest_files(session, limit=NEWEST))
        if elsewhere:
            logger().error("films elsewhere", reason=elsewhere)
        if database.is_sqlite:
            # This is the only process on these records, so whoever held a lease is dead.
            logger().info("unfinished films taken up again", films=room.store.release())
        _tend_films(room, stack)
        _send_results(room, database, stack)
        _look_back(room, database, stack)
        stack.enter_context(open_dicomweb(room.dicomweb))
        room.workflow.start()
        stack.callback(_drain, room)
        if settings.dicom_port is not None:
            from hilum.service.listening import open_listener

            opened = open_listener(settings, room.intake, room.look_ups, room.metrics, database, room.strangers)
            room.listener = stack.enter_context(opened)
        yield room


def _assemble(settings: Settings, database: Database, answering: Answering, drawing: Drawing) -> ReadingRoom:
    wanted = settings.pacs is not None and settings.priors_count > 0
    priors = PriorsPolicy(wanted=wanted, analysed=settings.priors_analyse)
    store = Store(database, ageing_cap_s=settings.ageing_cap_s, priors=priors)
    announcements, files = Announcements(), FilmFiles(settings.data, settings.keyring)
    outbox = Outbox(database, now)
    look_ups = LookUps(database, now)
    alarms = Alarms(database)
    metrics = Metrics(store, outbox, look_ups, alarms, str(files.films))

    def finished(film_id: str) -> None:
        announcements.announce(film_id)
        room.dicomweb.indexer.wake()
        if room.senders is not None:
            room.senders.wake()
        if room.looking_back is not None:
            room.looking_back.wake()

    workflow = Workflow(
        store,
        files,
        answering,
        finished=finished,
        audience=announcements,
        hands=settings.hands,
        lease_s=settings.lease_s,
        max_attempts=settings.max_attempts,
        ageing_cap_s=settings.ageing_cap_s,
        worked=metrics.worked,
    )
    intake = _intake(settings, database, store, files, answering.model, workflow)
    room = ReadingRoom(
        settings=settings,
        store=store,
        outbox=outbox,
        look_ups=look_ups,
        alarms=alarms,
        answering=answering,
        drawing=drawing,
        intake=intake,
        workflow=workflow,
        announcements=announcements,
        database=database,
        access=_access(settings, database),
        reviews=Reviews(database, readings=settings.readings, undo=timedelta(seconds=settings.undo_s)),
        studies=ReaderStudies(database),
        worklist=_worklist(settings, database),
        anchors=Anchors(settings.data / "anchors", database, answering.prepare, workflow.ask),
        labelling=Labelling(database, held_for=timedelta(minutes=settings.claim_min)),
        label_batches=LabelBatches(database),
        metrics=metrics,
        events=Events(database),
        streams=Streams(settings.event_streams),
        dicomweb=make_dicomweb(settings, database, files),
    )
    metrics.health = room.health
    return room


def _intake(
    settings: Settings,
    database: Database,
    store: Store,
    files: FilmFiles,
    model: Model,
    workflow: Workflow,
) -> Intake:
    pressure = Pressure(lambda: backlog(database), most=settings.most_waiting)
    return Intake(
        files,
        store,
        model_sha256=model.sha256,
        largest_bytes=settings.largest_film_mb * MIB,
        least_free_bytes=settings.least_free_mb * MIB,
        received=workflow.wake,
        offered=workflow.offered,
        pressure=pressure.check,
        begins_at_once=lambda: pressure.knows,
        busy=lambda: workflow.busy,
        named_ae_titles=settings.named_ae_titles,
    )


class _Restarts:
    """Told of restarts of the model's process from its start on; tells the metrics once these are there."""

    tells: Callable[[], None] | None = None

    def __call__(self, reason: str) -> None:
        if self.tells is not None:
            self.tells()


def _access(settings: Settings, database: Database) -> Access:
    idle, whole = timedelta(minutes=settings.session_idle_min), timedelta(hours=settings.session_hours)
    return Access(database, times=SessionTimes(idle=idle, whole=whole))


def _worklist(settings: Settings, database: Database) -> Worklist:
    cap, held_for = timedelta(minutes=settings.waiting_cap_min), timedelta(minutes=settings.claim_min)
    return Worklist(database, waiting_cap=cap, held_for=held_for)


def _refuse_without_admin(settings: Settings, access: Access) -> None:
    """On loopback the console's link makes the first admin; on a network somebody else might be faster."""
    if not settings.on_loopback and not access.has_admin():
        raise ServiceError(
            f"Nobody may use this service yet, and {settings.host} can be reached from the network. Make the first "
            f"admin with hilum users add NAME --role admin --data {settings.data}, then start again."
        )


def _tend_films(room: ReadingRoom, stack: contextlib.ExitStack) -> None:
    """Start what erases films, encrypts them anew and identifies former ones, beside everything else."""
    database, files = room.database, room.intake.files
    room.upkeep = Upkeep(database, files, room.settings.retention)
    room.rekeying = Rekeying(files, database)
    room.former_reading = FormerReading(FormerFilms(database), files, room.store)
    for thread in (room.upkeep, room.rekeying, room.former_reading):
        thread.start()
        stack.callback(thread.stop)


def _send_results(room: ReadingRoom, database: Database, stack: contextlib.ExitStack) -> None:
    """Start the senders where there are destinations; they stop after the workers, whose last answers they may send."""
    if room.settings.results_to:
        from hilum.service.results_opening import open_results_out

        sole = database.is_sqlite
        room.senders = stack.enter_context(open_results_out(room.settings, room.outbox, room.intake.files, sole=sole))
    else:
        room.outbox.register(())
    for destination, results in room.outbox.left_behind().items():
        logger().warning("results wait for a destination that is not named", destination=destination, results=results)


def _look_back(room: ReadingRoom, database: Database, stack: contextlib.ExitStack) -> None:
    """Start to look for priors where there is a PACS."""
    node = room.settings.pacs_node
    if node is None or room.settings.priors_count == 0:
        return
    from hilum.service.looking_back_opening import open_looking_back

    opened = open_looking_back(room.settings, room.look_ups, room.intake, node, sole=database.is_sqlite)
    room.looking_back = stack.enter_context(opened)


def _drain(room: ReadingRoom) -> None:
    """Finish the films in work; the others stay in the queue for the next start."""
    room.stop_accepting()
    finished = room.workflow.stop(room.settings.drain_s)
    logger().info("workers stopped", finished=finished)


@contextlib.contextmanager
def _sole_use(data: Path) -> Iterator[None]:
    """Keep other processes off the data folder; the kernel gives the lock back however this process ends."""
    try:
        data.mkdir(mode=0o700, parents=True, exist_ok=True)
        require_finished(data)
        descriptor = take_lock(data / ".lock")
    except BlockingIOError:
        raise ServiceError(
            f"The data folder {data} is in use by another hilum service. Stop it, or give another folder with --data."
        ) from None
    except OSError as error:
        raise ServiceError(
            f"The data folder {data} can't be used ({error.strerror}). Give a writable folder with --data."
        ) from None
    try:
        yield
    finally:
        os.close(descriptor)
