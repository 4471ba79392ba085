"""A client of a hilum service: send films, read answers."""

import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import quote

import httpx

from hilum.client.answers import StudyAnswer, read_answer
from hilum.errors import ServiceError

KINDS = ((b"\x89PNG\r\n\x1a\n", "image/png"), (b"\xff\xd8\xff", "image/jpeg"))
WAIT_S = 60.0


class Client:
    """Speaks to one service.

    Args:
        base_url: its address, such as ``http://127.0.0.1:8042``.
        key: a key that ``hilum users add-key`` made; None reaches nothing but the health.
        timeout_s: how long a reply may take, beside the wait that is asked for.
    """

    def __init__(self, base_url: str, *, key: str | None = None, timeout_s: float = 30) -> None:
        self._base_url, self._timeout_s = base_url.rstrip("/"), timeout_s
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._http = httpx.Client(base_url=self._base_url, timeout=timeout_s, trust_env=False, headers=headers)

    def __enter__(self) -> "Client":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def submit(self, film: Path | bytes, wait_s: float = 0) -> StudyAnswer:
        """Send a film; sending it again is harmless.

        Args:
            film: a DICOM, PNG or JPEG file, or its bytes.
            wait_s: wait so long for the answer, 0 … 60 s.

        Raises:
            ServiceError: the service can't be reached or refuses the film; the message says why.
        """
        content = film if isinstance(film, bytes) else Path(film).read_bytes()
        kind = next((kind for magic, kind in KINDS if content.startswith(magic)), "application/dicom")
        reply = self._ask("POST", "/api/v1/studies", wait_s=wait_s, content=content, headers={"Content-Type": kind})
        return self._answer(reply, new=reply.status_code == 201)

    def study(self, study_id: str, wait_s: float = 0) -> StudyAnswer:
        """One film's answer.

        Raises:
            ServiceError: no film has this id, or the service can't be reached.
        """
        return self._answer(self._ask("GET", f"/api/v1/studies/{quote(study_id, safe='')}", wait_s=wait_s))

    def studies(self, *, state: str | None = None, page_size: int = 50) -> Iterator[StudyAnswer]:
        """All films, newest first, fetched page by page.

        Args:
            state: only films in this state.
            page_size: films fetched at a time, 1 … 200.

        Raises:
            ServiceError: the service can't be reached, or the state is unknown.
        """
        asked: dict[str, str] = {"limit": str(page_size)} | ({"state": state} if state else {})
        while True:
            page = self._json(self._ask("GET", "/api/v1/studies", params=asked))
            for study in page["studies"]:
                yield read_answer(study)
            if not page["next"]:
                return
            asked["cursor"] = page["next"]

    def heatmap(self, study_id: str, finding: str, *, layer: bool = False) -> bytes:
        """A finding's heat map over the film (or, as a layer, alone), as PNG bytes.

        Raises:
            ServiceError: there is none, or the service can't be reached.
        """
        path = f"/api/v1/studies/{quote(study_id, safe='')}/heatmap/{quote(finding, safe='')}.png"
        return self._ask("GET", path, params={"layer": str(layer).lower()}).content

    def film(self, study_id: str) -> bytes:
        """The film as PNG bytes.

        Raises:
            ServiceError: there is none, or the service can't be reached.
        """
        return self._ask("GET", f"/api/v1/studies/{quote(study_id, safe='')}/film.png").content

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

    def _ask(self, method: str, path: str, *, wait_s: float = 0, **arguments: Any) -> httpx.Response:
        if wait_s:
            arguments["params"] = {**arguments.get("params", {}), "wait": min(wait_s, WAIT_S)}
        try:
            reply = self._http.request(method, path, timeout=self._timeout_s + wait_s, **arguments)
        except httpx.TimeoutException:
            raise ServiceError(
                f"The service at {self._base_url} did not reply in {self._timeout_s + wait_s:g} s. Try again."
            ) from None
        except httpx.HTTPError as error:
            raise ServiceError(
                f"The service at {self._base_url} can't be reached ({type(error).__name__}). Is it running?"
            ) from None
        if reply.is_success:
            return reply
        raise ServiceError(f"The service refused ({reply.status_code}): {_detail(reply)}")

    def _answer(self, reply: httpx.Response, new: bool | None = None) -> StudyAnswer:
        try:
            return read_answer(self._json(reply), new=new)
        except (KeyError, TypeError, ValueError):
            raise ServiceError(
                f"{self._base_url} replied with something that is no answer. Is it a hilum service of this version?"
            ) from None

    def _json(self, reply: httpx.Response) -> dict[str, Any]:
        try:
            body = reply.json()
        except ValueError:
            body = None
        if not isinstance(body, dict):
            raise ServiceError(f"{self._base_url} replied with something that is not JSON. Is it a hilum service?")
        return body


def _detail(reply: httpx.Response) -> str:
    try:
        return str(reply.json()["detail"])
    except (ValueError, KeyError, TypeError):
        return f"{reply.reason_phrase}. Is it a hilum service?"
