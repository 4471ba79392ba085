"""The web application, and the service as one call."""

import contextlib
import functools
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import uvicorn
from fastapi import FastAPI

import hilum
from hilum.errors import HilumError, ServiceError
from hilum.service.answering import Answering, Drawing
from hilum.service.connections import Connections, Entrance, Limits, most_open
from hilum.service.doors import FIRST_ADMIN
from hilum.service.http_protocol import HttpProtocol
from hilum.service.logs import logger, start_logs, where
from hilum.service.ports import bound
from hilum.service.reading_room import ReadingRoom, open_reading_room
from hilum.service.renewing import lasting_server
from hilum.service.rest import (
    alarms,
    audit,
    claims,
    dicomweb,
    events,
    health,
    labelling,
    look_ups,
    metrics,
    model_history,
    models,
    pixels,
    privacy,
    problems,
    reader_studies,
    results,
    reviews,
    studies,
    users,
    worklist,
)
from hilum.service.rest.access import NotForThem, declared
from hilum.service.rest.schemas import NOTICE
from hilum.service.settings import Settings, misspelt
from hilum.service.shield import KnownHosts, Shield
from hilum.service.turns_of_processor import keep_what_is_there, take_long_turns
from hilum.service.versions import versions
from hilum.service.web import (
    auditing,
    label_pages,
    login,
    model_page,
    monitoring,
    operations,
    pages,
    people,
    study_pages,
    troubles,
    uploads,
)
from hilum.service.web.assets import Assets

KEEP_ALIVE_S = 15
"""Longest time between two requests on a connection."""

DESCRIPTION = f"""
Send chest radiographs, read answers. **{NOTICE}**

* A film is acknowledged when its bytes and its record are durable, and answered exactly once by each model version.
* `POST /api/v1/studies?wait=10` gives the answer in one round trip; without `wait`, ask for it later by its id.
* Send a key as `Authorization: Bearer KEY`; an admin makes it (`hilum users add-key`).
* Every error is a problem document (RFC 9457). Ids are opaque; no address holds an identifier of a patient.
"""


def create_app(room: ReadingRoom) -> FastAPI:
    """The web application of an open reading room: REST, pages, health.

    Raises:
        ServiceError: a route doesn't say whom it is for.
    """
    app = FastAPI(
        title="hilum",
        version=hilum.__version__,
        summary="Chest X-ray reading room",
        description=DESCRIPTION,
        docs_url=None,  # they load scripts from elsewhere
        redoc_url=None,
        license_info={"name": "Apache-2.0", "identifier": "Apache-2.0"},
    )
    app.state.room = room
    problems.install(app)
    troubles.install(app)
    app.add_exception_handler(NotForThem, pages.not_for_them)
    app.include_router(studies.router)
    app.include_router(worklist.router)
    app.include_router(pixels.router)
    app.include_router(claims.router)
    app.include_router(reviews.router)
    app.include_router(reader_studies.router)
    app.include_router(labelling.router)
    app.include_router(users.router)
    app.include_router(audit.router)
    app.include_router(events.router)
    app.include_router(dicomweb.router)
    app.include_router(results.router)
    app.include_router(look_ups.router)
    app.include_router(alarms.router)
    app.include_router(privacy.router)
    app.include_router(models.router)
    app.include_router(model_history.router)
    app.include_router(health.router)
    app.include_router(metrics.router)
    app.include_router(login.router)
    app.include_router(pages.router)
    app.include_router(study_pages.router)
    app.include_router(label_pages.router)
    app.include_router(uploads.router)
    app.include_router(operations.router)
    app.include_router(people.router)
    app.include_router(auditing.router)
    app.include_router(model_page.router)
    app.include_router(monitoring.router)
    app.mount("/static", Assets(), name="static")
    app.add_middleware(KnownHosts, names=_hosts(room.settings))
    app.add_middleware(Shield, counted=room.metrics.request)
    declared(app)
    return app


def _hosts(settings: Settings) -> list[str]:
    if not settings.on_loopback and not settings.allowed_hosts:
        return ["*"]
    return ["localhost", "127.0.0.1", "[::1]", settings.host, *settings.allowed_hosts]


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """A service that runs."""

    room: ReadingRoom
    """What is behind its doors."""
    url: str
    """Address of REST and page, without a slash at the end."""
    dicom: str | None
    """DICOM address as ``TITLE@host:port``; None when there is no listener."""
    dicom_port: int | None
    """Port of the DICOM listener."""
    first_admin: str | None
    """Address, good for one use, where the first admin is made; None when there is one."""
    wait: Callable[[], None]
    """Wait until it is told to stop."""
    stop: Callable[[], None]
    """Tell it to stop; leaving the context drains it."""


@contextlib.contextmanager
def running(
    settings: Settings, *, answering: Answering | None = None, drawing: Drawing | None = None
) -> Iterator[Running]:
    """Run the service in threads of this process; leaving drains and closes it.

    Args:
        settings: what it needs to know.
        answering: the model; None for what the records have in production, at first ``settings.bundle``.
        drawing: what draws; None draws with :mod:`hilum.imaging`.

    Raises:
        ServiceError: it can't start.
        BundleError: the bundle is damaged.
    """
    with contextlib.ExitStack() as stack:
        listening = stack.enter_context(bound(settings.host, settings.port, option="--port"))
        limits = limits_of(settings)
        room = stack.enter_context(open_reading_room(settings, answering, drawing))
        connections = Connections(limits, room.metrics.connection_closed)
        door = stack.enter_context(Entrance(listening, connections, says_why=not settings.tls))
        server = _Server(create_app(room), settings, connections)
        thread = threading.Thread(target=server.run, args=([door],), name="hilum-web", daemon=True)
        thread.start()
        stack.callback(_stop_web, room, server, thread, settings.drain_s)
        _await_start(server, thread)
        host = f"[{settings.host}]" if ":" in settings.host else settings.host
        port = room.listener.port if room.listener else None
        url = f"{'https' if settings.tls else 'http'}://{host}:{door.getsockname()[1]}"
        yield Running(
            room=room,
            url=url,
            first_admin=None if room.access.has_admin() else f"{url}/enter?token={room.links.make(FIRST_ADMIN)}",
            dicom=f"{settings.ae_title}@{host}:{port}" if port else None,
            dicom_port=port,
            wait=thread.join,
            stop=server.tell_to_stop,
        )


def serve(settings: Settings, *, said: Callable[[str], None] = print) -> None:
    """Run the service until SIGTERM or SIGINT, then drain; returns normally after a clean stop.

    SIGHUP makes it look at its bundle again: another one at the same path goes into production.

    Args:
        settings: what it needs to know.
        said: told the addresses, one sentence each.
    """
    stop, again = threading.Event(), threading.Event()
    take_long_turns()
    start_logs()
    logger().info("start", **versions(settings))
    for name, meant in misspelt().items():  # passed over: a retention or a destination that never counts
        logger().warning("no such setting", name=name, meant=meant)
    before = {s: signal.signal(s, lambda *_: stop.set()) for s in (signal.SIGTERM, signal.SIGINT)}
    before[signal.SIGHUP] = signal.signal(signal.SIGHUP, lambda *_: again.set())
    try:
        with running(settings) as service:
            keep_what_is_there()
            model = service.room.answering.model
            said(f"Model {model.name} {model.version} ({model.sha256[:12]})")
            said(f"Page and REST: {service.url}/   (OpenAPI: {service.url}/openapi.json)")
            said(f"DICOM: {service.dicom}" if service.dicom else "DICOM: off")
            if service.first_admin:
                said(f"No admin yet. Whoever opens this address first makes one: {service.first_admin}")
            said(f"Ready. {NOTICE} Ctrl-C stops it.")
            while not stop.wait(0.2):
                if again.is_set():
                    again.clear()
                    said(_look_again(service.room))
                if not service.room.intake.broken:
                    continue
                raise ServiceError(service.room.intake.broken)
            said("Stopping: finishing what is in work.")
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _look_again(room: ReadingRoom) -> str:
    """Put the bundle at its path into production if it is another one; what came of it, in a sentence."""
    if room.switch is None:
        return "This service has no bundle to look at again."
    try:
        changed = room.switch.look_again(room.settings.bundle)
    except HilumError as error:
        logger().error("bundle not taken", reason=str(error))
        return f"The bundle was not taken: {error}"
    model = room.switch.model
    return f"Model {model.name} {model.version} ({model.sha256[:12]}) {'is in production now' if changed else 'stays'}."


def limits_of(settings: Settings) -> Limits:
    """What the settings, and the system, say of connections to REST and page."""
    most = most_open(settings.connections)
    return Limits(
        most=most,
        most_of_one=settings.connections_per_address or most - most // 5,
        head_s=settings.head_deadline_s,
        least_rate=settings.least_upload_rate,
        keep_alive_s=KEEP_ALIVE_S,
    )


class _Server(uvicorn.Server):
    """uvicorn, leaving signals to us: it would raise them again after a clean stop."""

    def __init__(self, app: FastAPI, settings: Settings, connections: Connections) -> None:
        self._connections = connections
        protocol: Any = functools.partial(HttpProtocol, connections=connections)
        super().__init__(
            uvicorn.Config(
                app,
                loop="asyncio",  # what Entrance and HttpProtocol know
                http=protocol,
                ws="none",  # where its library is installed, uvicorn would hand such connections to another protocol
                log_config=None,
                access_log=False,
                server_header=False,
                date_header=True,
                lifespan="off",
                timeout_keep_alive=KEEP_ALIVE_S,
                timeout_graceful_shutdown=max(1, int(settings.drain_s)),
                limit_concurrency=None,  # Shield's is one of requests in work, and Entrance's one of connections
                h11_max_incomplete_event_size=32 * 1024,
                ssl_certfile=settings.tls_certificate,
                ssl_keyfile=settings.tls_key,
            )
        )
        if settings.tls_certificate is not None and settings.tls_key is not None:
            self.config.load()
            self.config.ssl = lasting_server(settings.tls_certificate, settings.tls_key)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture none."""
        yield

    def run(self, sockets: list[socket.socket] | None = None) -> None:
        """Serve until told to stop."""
        try:
            super().run(sockets)
        finally:
            self._connections.end()

    async def on_tick(self, counter: int) -> bool:
        """Ten times a second."""
        if counter % 10 == 0:
            try:
                self._connections.sweep()
            except Exception as error:  # it would end uvicorn's loop, and REST and page with it
                logger().error("connections not looked at", **where(error))
        return await super().on_tick(counter)

    def tell_to_stop(self) -> None:
        """Finish the requests in work, then end."""
        self.should_exit = True


def _await_start(server: _Server, thread: threading.Thread, within_s: float = 60) -> None:
    deadline = time.monotonic() + within_s
    while not server.started:
        if not thread.is_alive() or time.monotonic() > deadline:
            raise ServiceError("The web server did not start. Its log says why.")
        time.sleep(0.005)


def _stop_web(room: ReadingRoom, server: _Server, thread: threading.Thread, drain_s: float) -> None:
    room.stop_accepting()
    server.tell_to_stop()
    thread.join(drain_s + 2)
    logger().info("web server stopped", finished=not thread.is_alive())
