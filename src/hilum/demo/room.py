"""The reading room of a story: hilum serve on PostgreSQL beside Orthanc, its verbs, its users and its films."""

import contextlib
import json
import secrets
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from pydicom import dcmread
from sqlalchemy import func, select

from hilum.client.api import Client
from hilum.demo.orthanc import Pacs, orthanc
from hilum.demo.postgres import cluster
from hilum.demo.programs import beside, free_ports, run_to_end, until
from hilum.demo.telling import Step
from hilum.errors import ServiceError
from hilum.records.access import Access
from hilum.records.database import Database
from hilum.records.proving import reading
from hilum.records.schema import DeliveryRow, FilmRow
from hilum.records.values import FINISHED
from hilum.service.dicom.sending import SUCCESS, Peer, send_films

SCANNERS = ("ROOM1", "ROOM2")
"""AE titles of the two X-ray rooms."""

USERS = {"ada": "reviewer", "bob": "reviewer", "dan": "reviewer", "mia": "model-manager"}
"""Who comes in, by name, and as what."""

AT_ONCE = 8
"""Films that a scanner has on their way at most, so that the time to an answer stays what it is."""

PATIENCE_S = 120.0
"""How long a scanner waits for the PACS, which hands each film on before it answers: a busy machine takes its time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Film:
    """A phantom film on disk."""

    path: Path
    """Its file."""
    label: str
    """What it was drawn with."""
    patient_id: str
    """Its patient's pseudonym."""

    @property
    def uid(self) -> str:
        """SOP instance UID, by which it is known again on its way through the PACS."""
        return str(dcmread(self.path, stop_before_pixels=True, specific_tags=["SOPInstanceUID"]).SOPInstanceUID)


@dataclass(slots=True, kw_only=True)
class Room:
    """Everything that runs, and how it is spoken to."""

    folder: Path
    """Of the clinic; everything it makes lies there."""
    database_url: str
    """Of the records."""
    pacs: Pacs
    """The PACS."""
    url: str
    """Of REST and page."""
    environment: Mapping[str, str]
    """Of hilum's programs."""
    passwords: dict[str, str] = field(default_factory=dict)
    """By user."""
    keys: dict[str, str] = field(default_factory=dict)
    """By user."""
    truth: dict[str, str] = field(default_factory=dict)
    """Label by SOP instance UID of every film that was sent."""
    sent: dict[str, Film] = field(default_factory=dict)
    """Every film that was sent, by SOP instance UID."""

    @property
    def data(self) -> Path:
        """The service's folder."""
        return self.folder / "service"

    def hilum(self, step: Step | None, *words: str | Path, given: str | None = None, fails: bool = False) -> Any:
        """Run a verb as a person would, with the records in its environment.

        Args:
            step: whose; the command is told. None: quietly.
            words: the verb and its arguments.
            given: standard input.
            fails: whether it may end with 1, as a verb does that found something.

        Returns:
            its JSON summary.

        Raises:
            ServiceError: it failed.
        """
        command = ["hilum", *map(str, words)]
        if step is not None:
            step.type(shlex.join(command))
        done = run_to_end([sys.executable, "-m", *command, "--json"], environment=self.environment, given=given)
        last = (done.stdout.strip().splitlines() or [""])[-1]
        if done.returncode > int(fails) or not last.startswith("{"):
            said = (done.stderr.strip().splitlines() or ["nothing was said"])[-1]
            raise ServiceError(f"{' '.join(command[:3])} ended with {done.returncode}: {said.removeprefix('hilum: ')}")
        return json.loads(last)

    def add_user(self, step: Step, name: str, *roles: str) -> None:
        """Make a user with a password and a key of the same rights."""
        words = [word for role in roles for word in ("--role", role)]
        self.passwords[name] = secrets.token_urlsafe(12)
        self.hilum(step, "users", "add", name, *words, "--password-stdin", given=f"{self.passwords[name]}\n")
        database = Database(self.database_url)
        try:
            self.keys[name] = Access(database).add_key(name, [], label="the story", days=1, actor="console")[1]
        finally:
            database.close()

    def client(self, user: str, *, patience_s: float = 60) -> Client:
        """The typed client of somebody; to be closed."""
        return Client(self.url, key=self.keys[user], patience_s=patience_s)

    def active(self) -> Mapping[str, Any]:
        """What the service has in production, as it says."""
        found: Mapping[str, Any] = self.ask("mia", "GET", "/api/v1/models/active")
        return found

    def ask(self, user: str, method: str, path: str, **request: Any) -> Any:
        """One request of somebody where the typed client has no word for it.

        Raises:
            ServiceError: the service refused.
        """
        headers = {"Authorization": f"Bearer {self.keys[user]}", **request.pop("headers", {})}
        reply = httpx.request(method, f"{self.url}{path}", headers=headers, timeout=120, trust_env=False, **request)
        if not reply.is_success:
            raise ServiceError(f"{method} {path} was answered with {reply.status_code}: {reply.text[:200]}")
        return reply.json()

    def study_of(self, uid: str) -> str:
        """Study instance UID of a film that was sent."""
        tags = ["StudyInstanceUID"]
        return str(dcmread(self.sent[uid].path, stop_before_pixels=True, specific_tags=tags).StudyInstanceUID)

    def scan(self, scanner: str, films: Sequence[Film], *, within_s: float = 120) -> list[str]:
        """A scanner sends films to the PACS by C-STORE, some at a time; returns their UIDs when all are answered.

        Raises:
            ServiceError: a film was refused or not answered in time.
        """
        peer, uids = Peer(host="127.0.0.1", port=self.pacs.dicom_port, ae_title="ORTHANC"), list[str]()
        for start in range(0, len(films), AT_ONCE):
            some = films[start : start + AT_ONCE]
            statuses = send_films([film.path for film in some], peer, calling=scanner, timeout_s=PATIENCE_S)
            if any(status != SUCCESS for status in statuses):
                raise ServiceError(f"C-STORE answered {[f'0x{status:04X}' for status in statuses]}, not success.")
            new = self.remember(some)
            uids += new
            until(lambda new=new: len(self.answered(new)) == len(new), "the films are answered", within_s=within_s)  # type: ignore[misc]
        return uids

    def remember(self, films: Sequence[Film]) -> list[str]:
        """Note films that are sent; returns their UIDs."""
        uids = [film.uid for film in films]
        self.truth |= {uid: film.label for uid, film in zip(uids, films, strict=True)}
        self.sent |= dict(zip(uids, films, strict=True))
        return uids

    def answered(self, uids: Sequence[str]) -> dict[str, str]:
        """Opaque id of each of these films that is finished, by UID."""
        query = select(FilmRow.sop_instance_uid, FilmRow.id).where(
            FilmRow.sop_instance_uid.in_(list(uids)), FilmRow.state.in_(FINISHED)
        )
        with reading(self.database_url) as session:
            return {str(uid): film for uid, film in session.execute(query)}

    def deliveries(self) -> dict[str, int]:
        """Results by the state of their delivery."""
        query = select(DeliveryRow.state, func.count()).group_by(DeliveryRow.state)
        with reading(self.database_url) as session:
            return {str(state): count for state, count in session.execute(query)}


@contextlib.contextmanager
def open_room(folder: Path, bundle: Path, environment: Mapping[str, str], step: Step) -> Iterator[Room]:
    """PostgreSQL, Orthanc and the service, running while the block does.

    Args:
        folder: a new one.
        bundle: the first model.
        environment: of the caller.
        step: told what is done.
    """
    database, rest, dicom, hilum_port, page = free_ports(5)
    with contextlib.ExitStack() as stack:
        url = stack.enter_context(cluster(folder, database))
        step.check(True, f"PostgreSQL runs on port {database} in {folder / 'postgres'}")
        pacs = stack.enter_context(orthanc(folder, (rest, dicom), hilum_port=hilum_port, scanners=SCANNERS))
        step.check(True, f"Orthanc runs as ORTHANC on port {dicom} in {folder / 'orthanc'}")
        room = Room(
            folder=folder,
            database_url=url,
            pacs=pacs,
            url=f"http://127.0.0.1:{page}",
            environment=_environment(environment, folder, url, pacs),
        )
        for name, role in USERS.items():
            room.add_user(step, name, role)
        words = ["hilum", "serve", str(bundle), "--port", str(page), "--dicom-port", str(hilum_port)]
        words += ["--allow", "ORTHANC", "--data", str(room.data)]
        step.type(shlex.join(words))
        run = [sys.executable, "-m", *words]
        process = stack.enter_context(beside("hilum", run, folder, environment=room.environment))
        with room.client("mia") as client:
            until(lambda: client.ready() or process.poll() is not None, "the service is ready", within_s=120)
            step.check(client.ready(), f"hilum serves {room.url}")
        yield room


def _environment(given: Mapping[str, str], folder: Path, url: str, pacs: Pacs) -> dict[str, str]:
    """The caller's without a site's settings, and with the clinic's."""
    ours = {name: value for name, value in given.items() if not name.startswith("HILUM_")}
    return ours | {
        "HILUM_DATABASE_URL": url,
        "HILUM_DATA": str(folder / "service"),
        "HILUM_RESULTS_TO": pacs.destination,
        "HILUM_RESULTS_ORGANIZATION": "Synthetic clinic",
        "HILUM_UNDO_S": "2",
        "HILUM_KEEP_FINGERPRINTS": "1",
    }
