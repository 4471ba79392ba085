"""Pictures of films and heat maps, drawn when asked for and kept for a while in memory, never on disk."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Collection
from concurrent.futures import Future

KEPT_BYTES = 64 * 1024 * 1024


class PictureCache:
    """The most recently used pictures.

    Args:
        largest: bytes kept.
    """

    def __init__(self, largest: int = KEPT_BYTES) -> None:
        self._largest, self._kept = largest, 0
        self._pictures: OrderedDict[tuple[str, ...], bytes] = OrderedDict()
        self._drawn: dict[tuple[str, ...], Future[bytes]] = {}
        self._lock = threading.Lock()

    def get(self, key: tuple[str, ...], draw: Callable[[], bytes]) -> bytes:
        """A picture, drawn unless it is there. Of those who ask at once one draws it, and what it raises all raise."""
        with self._lock:
            if key in self._pictures:
                self._pictures.move_to_end(key)
                return self._pictures[key]
            others = self._drawn.get(key)
            if others is None:
                ours = self._drawn[key] = Future()
        if others is not None:
            return others.result()
        try:
            ours.set_result(self._keep(key, draw()))
        except BaseException as error:
            ours.set_exception(error)
        finally:
            with self._lock:
                del self._drawn[key]
        return ours.result()

    def _keep(self, key: tuple[str, ...], picture: bytes) -> bytes:
        with self._lock:
            self._pictures[key] = picture
            self._kept += len(picture)
            while self._kept > self._largest and self._pictures:
                self._kept -= len(self._pictures.popitem(last=False)[1])
        return picture

    def forget(self, film_ids: Collection[str]) -> None:
        """Drop all pictures of films, whose ids their keys begin with."""
        with self._lock:
            for key in [key for key in self._pictures if key[0] in film_ids]:
                self._kept -= len(self._pictures.pop(key))
