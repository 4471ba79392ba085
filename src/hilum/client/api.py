"""A client of a hilum service: send films, read answers, follow along, review, look after users and keys."""

import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, TypeVar
from urllib.parse import quote

import httpx

from hilum.client.administration import (
    ApiKey,
    AuditEntry,
    DeadLetter,
    Destination,
    read_dead_letter,
    read_destination,
    read_entry,
    read_key,
)
from hilum.client.answers import (
    ModelCheck,
    ModelsInService,
    Review,
    StudyAnswer,
    UserAccount,
    WorklistLine,
    read_answer,
    read_check,
    read_line,
    read_models,
    read_review,
    read_user,
)
from hilum.client.following import FilmEvent, follow
from hilum.client.transport import Transport
from hilum.errors import ServiceError, UsageError

T = TypeVar("T")
KINDS = ((b"\x89PNG\r\n\x1a\n", "image/png"), (b"\xff\xd8\xff", "image/jpeg"))
WAIT_S = 60.0
LOADING_S = 120.0
"""How much longer than usual verifying or loading a model may take."""


class Client:
    """Speaks to one service. Requests that it can't take now are sent again, at most for as long as we have patience.

    Args:
        base_url: its address, such as ``http://127.0.0.1:8042``.
        key: a key that ``hilum users add-key`` made; None reaches nothing but the health.
        timeout_s: how long a reply may take, beside the wait that is asked for.
        patience_s: how long a request is tried again while the service is away or overloaded; 0 for not at all.
        ca: PEM file of who may have signed its certificate, such as a hospital's authority; None for those that the
            system trusts.

    Raises:
        UsageError: ``ca`` can't be read.
    """

    def __init__(
        self,
        base_url: str,
        *,
        key: str | None = None,
        timeout_s: float = 30,
        patience_s: float = 60,
        ca: Path | None = None,
    ) -> None:
        self._base_url, self._patience_s = base_url.rstrip("/"), patience_s
        self._transport = Transport(self._base_url, key=key, timeout_s=timeout_s, patience_s=patience_s, authorities=ca)
        self._ask, self._json, self._http = self._transport.ask, self._transport.json, self._transport.http

    def __enter__(self) -> "Client":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def submit(self, film: Path | bytes, wait_s: float = 0, *, urgent: bool = False) -> StudyAnswer:
        """Send a film; sending it again is harmless.

        Args:
            film: a DICOM, PNG or JPEG file, or its bytes.
            wait_s: wait so long for the answer, 0 … 60 s.
            urgent: it is answered before others.

        Raises:
            ServiceError: the service can't be reached or refuses the film; the message says why.
        """
        content = film if isinstance(film, bytes) else Path(film).read_bytes()
        kind = next((kind for magic, kind in KINDS if content.startswith(magic)), "application/dicom")
        headers = {"Content-Type": kind, "Idempotency-Key": uuid.uuid4().hex}
        params = _wait(wait_s) | ({"priority": "stat"} if urgent else {})
        reply = self._ask("POST", "/api/v1/studies", wait_s=wait_s, content=content, headers=headers, params=params)
        return self._answer(reply, new=reply.status_code == 201)

    def study(self, study_id: str, wait_s: float = 0) -> StudyAnswer:
        """One film's answer.

        Raises:
            ServiceError: no film has this id, or the service can't be reached.
        """
        return self._answer(self._ask("GET", _study(study_id), wait_s=wait_s, params=_wait(wait_s)))

    def studies(self, *, state: str | None = None, page_size: int = 50) -> Iterator[StudyAnswer]:
        """All films, newest first, fetched page by page.

        Args:
            state: only films in this state.
            page_size: films fetched at a time, 1 … 200.

        Raises:
            ServiceError: the service can't be reached, or the state is unknown.
        """
        asked = {"state": state} if state else {}
        for study in self._transport.pages("/api/v1/studies", "studies", page_size, **asked):
            yield self._told(read_answer, study)

    def worklist(
        self,
        *,
        status: str | None = None,
        finding: str | None = None,
        doubt: Literal["abstained", "unsure"] | None = None,
        mine: bool = False,
        accession: str | None = None,
        page_size: int = 50,
    ) -> Iterator[WorklistLine]:
        """Films to be read, in the worklist's order, fetched page by page; what is fetched is in the audit as seen.

        Args:
            status: ``open`` for films that need a reader; how far the reading is, or a state; None for all.
            finding: only films with this label.
            doubt: only films of which the model abstained or is unsure.
            mine: only films that one holds or has reviewed.
            accession: only films with this accession number, whole.
            page_size: films fetched at a time, 1 … 200.

        Yields:
            each film once, also when it changes its place meanwhile.

        Raises:
            ServiceError: the service refuses, such as an unknown status, or can't be reached.
        """
        filters = {"status": status, "finding": finding, "doubt": doubt, "accession": accession}
        asked = {name: value for name, value in filters.items() if value} | ({"mine": "true"} if mine else {})
        given: set[str] = set()
        for one in self._transport.pages("/api/v1/worklist", "lines", page_size, **asked):
            line = self._told(read_line, one)
            if line.study.id not in given:
                given.add(line.study.id)
                yield line

    def heatmap(self, study_id: str, finding: str, *, layer: bool = False) -> bytes:
        """A finding's heat map over the film (or, as a layer, alone), as PNG bytes.

        Raises:
            ServiceError: there is none, or the service can't be reached.
        """
        path = f"{_study(study_id)}/heatmap/{quote(finding, safe='')}.png"
        return self._ask("GET", path, params={"layer": str(layer).lower()}).content

    def film(self, study_id: str) -> bytes:
        """The film as PNG bytes.

        Raises:
            ServiceError: there is none, or the service can't be reached.
        """
        return self._ask("GET", f"{_study(study_id)}/film.png").content

    def ready(self) -> bool:
        """True when the service accepts and answers films; False when it can't be reached."""
        try:
            return self._http.get("/health/ready").status_code == 200
        except httpx.HTTPError:
            return False

    def wait_until_ready(self, within_s: float = 30) -> None:
        """Return when the service is ready.

        Raises:
            ServiceError: it is not, after so long.
        """
        deadline = time.monotonic() + within_s
        while not self.ready():
            if time.monotonic() > deadline:
                raise ServiceError(f"The service at {self._base_url} is not ready after {within_s:g} s. See its log.")
            time.sleep(0.05)

    def requeue(self, study_id: str) -> StudyAnswer:
        """Put a failed film back into the queue (scope ``models:write``).

        Raises:
            ServiceError: no film has this id, it did not fail, or the service can't be reached.
        """
        return self._answer(self._ask("POST", f"{_study(study_id)}/requeue"))

    def events(self, after: int | None = None) -> Iterator[FilmEvent]:
        """What happens to films, without an end; a line that breaks is taken up where it was.

        Args:
            after: only what happened behind this event's place; 0 for everything, None from now on.

        Raises:
            ServiceError: the service refuses, or is away for longer than our patience.
        """
        return follow(self._transport, after, patience_s=self._patience_s)

    def models(self) -> ModelsInService:
        """Which model answers, and which did.

        Raises:
            ServiceError: the service can't be reached.
        """
        return read_models(self._json(self._ask("GET", "/api/v1/models")))

    def send_model(self, bundle: Path) -> str:
        """Send a bundle, which is verified and kept; nothing changes yet (scope ``models:write``).

        Args:
            bundle: a ``.hilum`` file.

        Returns:
            its digest.

        Raises:
            ServiceError: it is refused, or the service can't be reached.
        """
        kind = {"Content-Type": "application/octet-stream"}
        content = Path(bundle).read_bytes()
        reply = self._ask("POST", "/api/v1/models", wait_s=LOADING_S, content=content, headers=kind)
        return str(self._json(reply)["sha256"])

    def activate(self, sha256: str, reason: str, *, past_plan: bool = False) -> str:
        """Put a bundle that was sent before into production, while films come in (scope ``models:write``).

        Args:
            sha256: its digest.
            reason: why, in one sentence; it stands in the audit.
            past_plan: also where a change control plan is in force, which is recorded and shown as an override.

        Returns:
            name and version of what is in production now.

        Raises:
            ServiceError: it fails its tests, a candidate is on trial, a plan is in force, or the service can't be
                reached.
        """
        said = {"sha256": sha256, "reason": reason} | ({"past_plan": True} if past_plan else {})
        now = self._json(self._ask("POST", "/api/v1/models/active", wait_s=LOADING_S, json=said))
        return f"{now['name']} {now['version']}"

    def check_model(self, *, accept: str = "") -> ModelCheck:
        """Have the running model answer its fixed phantom films again (scope ``models:write``).

        Args:
            accept: why the present answers count from now on; empty to compare them.

        Raises:
            ServiceError: the recorded answers were changed, the model doesn't answer, or the service can't be reached.
        """
        return read_check(self._json(self._ask("POST", "/api/v1/models/active/check", json={"accept": accept})))

    def reviews(self, study_id: str) -> tuple[Review, ...]:
        """The newest opinion of each reader.

        Raises:
            ServiceError: no film has this id, or the service can't be reached.
        """
        return tuple(read_review(one) for one in self._ask("GET", f"{_study(study_id)}/reviews").json())

    def review(
        self,
        study_id: str,
        decision: Literal["agree", "override"],
        *,
        finding: str | None = None,
        comment: str = "",
        over: int = 0,
    ) -> Review:
        """Record one's own opinion (scope ``reviews:write``).

        Args:
            study_id: the film.
            decision: agree with the answer, or override it.
            finding: what it is instead; only to override.
            comment: in one's own words.
            over: the version that it replaces; 0 for the first. Another one there is an error, so no change is lost.

        Raises:
            ServiceError: another version is there, there is no answer to judge, or the service can't be reached.
        """
        headers = {"If-Match": f'"v{over}"'} if over else {"If-None-Match": "*"}
        said = {"decision": decision, "finding": finding, "comment": comment}
        return read_review(self._json(self._ask("PUT", f"{_study(study_id)}/reviews/mine", json=said, headers=headers)))

    def users(self, *, page_size: int = 50) -> Iterator[UserAccount]:
        """All users by name (scope ``users:write``).

        Raises:
            ServiceError: the service refuses or can't be reached.
        """
        for one in self._transport.pages("/api/v1/users", "users", page_size):
            yield self._told(read_user, one)

    def add_user(self, name: str, roles: Sequence[str], *, password: str | None = None) -> UserAccount:
        """Make a user (scope ``users:write``).

        Args:
            name: 1 to 64 lower-case letters, digits and . _ @ -.
            roles: one or more.
            password: None for one that comes by keys only.

        Raises:
            ServiceError: the name is taken, or the service refuses or can't be reached.
        """
        new = {"name": name, "roles": list(roles), "password": password}
        return read_user(self._json(self._ask("POST", "/api/v1/users", json=new, headers=_once())))

    def add_key(
        self, user: str, scopes: Sequence[str] = (), *, label: str = "", days: int | None = None
    ) -> tuple[str, str]:
        """Make a key for a program (scope ``users:write``).

        Args:
            user: whose.
            scopes: what it may do; empty for all that its user may.
            label: what for.
            days: until when it counts; None for no end.

        Returns:
            its id, and the key itself, which is told this once.

        Raises:
            ServiceError: the service refuses or can't be reached.
        """
        new = {"user": user, "scopes": list(scopes), "label": label, "days": days}
        made = self._json(self._ask("POST", "/api/v1/keys", json=new, headers=_once()))
        return str(made["id"]), str(made["secret"])

    def revoke_key(self, key_id: str) -> None:
        """Let a key count no more (scope ``users:write``).

        Raises:
            ServiceError: no such key, or the service refuses or can't be reached.
        """
        self._ask("DELETE", f"/api/v1/keys/{quote(key_id, safe='')}")

    def api_keys(self, *, page_size: int = 50) -> Iterator[ApiKey]:
        """All keys, oldest first, without their secrets (scope ``users:write``).

        Raises:
            ServiceError: the service refuses or can't be reached.
        """
        for one in self._transport.pages("/api/v1/keys", "keys", page_size):
            yield self._told(read_key, one)

    def audit(self, *, after: int = 0, subject: str | None = None, page_size: int = 200) -> Iterator[AuditEntry]:
        """Who did and saw what, in its order (scope ``audit:read``); ``hilum audit verify`` proves it.

        Args:
            after: only rows behind this place.
            subject: only rows about this: a film's id, a user's name, a key's id.
            page_size: rows fetched at a time, 2 … 1,000: each fetch is a row itself.

        Raises:
            UsageError: a page is too small to come to an end.
            ServiceError: the service refuses or can't be reached.
        """
        if page_size < 2:
            raise UsageError(
                "The audit is read in pages of 2 rows or more, since each page adds one. Give a larger one."
            )
        asked = {"after": str(after)} | ({"subject": subject} if subject else {})
        for one in self._transport.pages("/api/v1/audit", "entries", page_size, onward="after", **asked):
            yield self._told(read_entry, one)

    def destinations(self) -> tuple[Destination, ...]:
        """Where results go, and how many of them are on their way (scope ``models:write``).

        Raises:
            ServiceError: the service refuses or can't be reached.
        """
        queue = self._json(self._ask("GET", "/api/v1/results", params={"limit": "1"}))
        return tuple(self._told(read_destination, one) for one in queue["destinations"])

    def dead_letters(self, *, page_size: int = 50) -> Iterator[DeadLetter]:
        """Results that were given up, the latest first (scope ``models:write``).

        Raises:
            ServiceError: the service refuses or can't be reached.
        """
        for one in self._transport.pages("/api/v1/results", "dead", page_size):
            yield self._told(read_dead_letter, one)

    def requeue_results(self, letter_id: str | None = None) -> int:
        """Try results again, at once (scope ``models:write``).

        Args:
            letter_id: one dead letter; None for all, and for what waits for its next attempt.

        Returns:
            how many are in the queue again.

        Raises:
            ServiceError: no dead letter has this id, or the service refuses or can't be reached.
        """
        body = {"id": letter_id} if letter_id else None
        return int(self._json(self._ask("POST", "/api/v1/results/requeue", json=body))["requeued"])

    def _answer(self, reply: httpx.Response, new: bool | None = None) -> StudyAnswer:
        return self._told(partial(read_answer, new=new), self._json(reply))

    def _told(self, read: Callable[[dict[str, Any]], T], body: dict[str, Any]) -> T:
        try:
            return read(body)
        except (AttributeError, KeyError, TypeError, ValueError):
            raise ServiceError(
                f"{self._base_url} replied with something that is no answer. Is it a hilum service of this version?"
            ) from None


def _study(study_id: str) -> str:
    return f"/api/v1/studies/{quote(study_id, safe='')}"


def _wait(wait_s: float) -> dict[str, str]:
    return {"wait": f"{min(wait_s, WAIT_S):g}"} if wait_s else {}


def _once() -> dict[str, str]:
    """The same for every attempt of one request, and for no other."""
    return {"Idempotency-Key": uuid.uuid4().hex}
