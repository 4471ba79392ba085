"""A sender that posts films without a pause and counts what became of each request."""

import io
import threading
import time
from collections.abc import Sequence

from pydicom import dcmread

from hilum.client.api import Client
from hilum.demo.room import Film
from hilum.errors import HilumError

PAUSE_S = 0.3


class Sender:
    """Posts films from a thread while its block lasts; each request once, without a second try.

    Args:
        client: that tries nothing again; closed at the end.
        films: posted in turn, each time under UIDs of their own, so that every one is a film that was never seen.
    """

    def __init__(self, client: Client, films: Sequence[Film]) -> None:
        self._client, self._films = client, films
        self.taken: list[str] = []
        self.refused: list[str] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._post, name="sender", daemon=True)

    def __enter__(self) -> "Sender":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self._client.close()

    def stop(self) -> None:
        """Post no more; the request on its way is waited for."""
        self._stop.set()
        self._thread.join()

    def _post(self) -> None:
        number = 0
        while not self._stop.wait(PAUSE_S):
            film = self._films[number % len(self._films)]
            try:
                self.taken.append(self._client.submit(anew(film, number)).id)
            except HilumError as error:
                self.refused.append(str(error))
            number += 1

    def states(self, *, within_s: float = 60) -> dict[str, int]:
        """How many of the films that were taken are in which state, when all have ended or the time is over."""
        deadline = time.monotonic() + within_s
        while True:
            found = [self._client.study(film) for film in self.taken]
            if all(one.finished for one in found) or time.monotonic() > deadline:
                counts: dict[str, int] = {}
                for one in found:
                    counts[one.state] = counts.get(one.state, 0) + 1
                return counts
            time.sleep(0.5)


def anew(film: Film, number: int) -> bytes:
    """The film under UIDs of its own, derived from its number."""
    dataset = dcmread(film.path)
    for name in ("SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID"):
        # A component is at most a few digits here, and a whole UID 64 characters: the last one is exchanged.
        dataset[name].value = f"{str(dataset[name].value)[:54].rstrip('.')}.{9_000_000 + number}"
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    out = io.BytesIO()
    dataset.save_as(out, enforce_file_format=True)
    return out.getvalue()
