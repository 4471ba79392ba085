"""The bytes of what is fetched: films from disk, results made anew, all foreign files read in a child of its own."""

import contextlib
import threading
from collections.abc import Callable
from typing import Any, TypeVar

from hilum.errors import FilmError
from hilum.imaging.sandbox import Sandbox
from hilum.records.dicom_index import FILM, DicomIndex, DicomObject
from hilum.service.dicom.objects import PRELOAD, make_objects
from hilum.service.dicomweb import contents
from hilum.service.film_files import FilmFiles
from hilum.service.results_out import decision_of, result_of

R = TypeVar("R")


class Maker:
    """Starts its child when something is first asked for: most services are never asked.

    Args:
        index: what there is.
        files: where films lie.
        organization: who readers work for, as verified reports name it.
        memory_mb: memory limit of the child, MiB.
        wall_s: time limit of one call.
    """

    def __init__(
        self, index: DicomIndex, files: FilmFiles, *, organization: str, memory_mb: int, wall_s: float
    ) -> None:
        self._index, self._files, self._organization = index, files, organization
        self._memory_mb, self._wall_s = memory_mb, wall_s
        self._lock, self._held = threading.Lock(), contextlib.ExitStack()
        self._sandbox: Sandbox | None = None

    def close(self) -> None:
        """End the child."""
        with self._lock:
            self._held.close()

    def content(self, one: DicomObject) -> bytes:
        """An object's Part 10 file.

        Raises:
            FilmError: the film's file is gone, or no result can be made from it.
        """
        if one.kind == FILM:
            return self._files.film(self._index.file_of(one.film_id)).read_bytes()
        file_sha256, answer = self._index.answer(one)
        made = self._run(
            make_objects,
            self._files.film(file_sha256).source(),
            result_of(answer),
            decision_of(answer, self._organization),
        )
        for result in made:
            if result.sop_instance_uid == one.sop_instance_uid:
                return result.content
        raise FilmError("The result can't be made any more from what is recorded.", code="gone")

    def metadata(self, one: DicomObject, url: str) -> str:
        """An object's attributes as JSON text; raises FilmError."""
        return self._run(contents.metadata, self.content(one), url)

    def frames(self, one: DicomObject, numbers: tuple[int, ...]) -> tuple[str, str, tuple[bytes, ...]]:
        """Media type, transfer syntax and bytes of an object's frames; raises FilmError."""
        return self._run(contents.frames, self.content(one), numbers)

    def bulkdata(self, one: DicomObject, tag: int) -> bytes:
        """The bytes of one binary attribute; raises FilmError."""
        return self._run(contents.bulkdata, self.content(one), tag)

    def _run(self, function: Callable[..., R], *args: Any) -> R:
        with self._lock:
            if self._sandbox is None:
                preload = (*PRELOAD, *contents.PRELOAD)
                child = Sandbox(1, memory_mb=self._memory_mb, wall_s=self._wall_s, preload=preload)
                self._sandbox = self._held.enter_context(child)
            sandbox = self._sandbox
        return sandbox.run(function, *args)
