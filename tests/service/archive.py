"""A small real PACS in this process: C-ECHO, C-FIND in the Study Root model, C-GET and C-MOVE."""

import contextlib
import fnmatch
import ssl
from collections.abc import Iterator, Sequence
from typing import Any

from pydicom.dataset import Dataset
from pynetdicom import AE, evt
from tests.service.small import dataset

from hilum.service.dicom.classes import STORAGE, VERIFICATION
from hilum.service.dicom.pacs import STUDY_ROOT_FIND, STUDY_ROOT_GET, STUDY_ROOT_MOVE

PENDING, CANCELLED = 0xFF00, 0xFE00
LEVELS = {"STUDY": "StudyInstanceUID", "SERIES": "SeriesInstanceUID", "IMAGE": "SOPInstanceUID"}


class Archive:
    """What it holds, what it was asked, and where it sends to."""

    def __init__(self, films: Sequence[Dataset]) -> None:
        self.films = list(films)
        self.asked: list[Dataset] = []
        self.sent: list[str] = []
        self.kept: list[str] = []
        self.destinations: dict[str, tuple[str, int]] = {}
        self.refuse_finds = 0
        self.hangs_up = False
        self.swaps: dict[str, Dataset] = {}
        self.port = 0

    @property
    def setting(self) -> str:
        return f"archive=dicom://ARCHIVE@127.0.0.1:{self.port}"

    def keep(self, event: Any) -> int:
        self.kept.append(str(event.request.AffectedSOPInstanceUID))
        return 0x0000

    def find(self, event: Any) -> Iterator[tuple[int, Dataset | None]]:
        query = event.identifier
        self.asked.append(query)
        if self.hangs_up:
            event.assoc.abort()
            return
        if self.refuse_finds:
            self.refuse_finds -= 1
            yield 0xA700, None
            return
        seen = set()
        for film in self.films:
            answer = Dataset()
            answer.QueryRetrieveLevel = query.QueryRetrieveLevel
            if "SpecificCharacterSet" in query:
                answer.SpecificCharacterSet = query.SpecificCharacterSet
            for element in query:
                if element.keyword in ("QueryRetrieveLevel", "SpecificCharacterSet"):
                    continue
                value = film.get("Modality" if element.keyword == "ModalitiesInStudy" else element.keyword, "")
                if not matches(str(element.value or ""), str(value)):
                    break
                setattr(answer, element.keyword, value)
            else:
                uid = str(film.get(LEVELS[query.QueryRetrieveLevel]))
                if uid not in seen:
                    seen.add(uid)
                    yield PENDING, answer
        yield 0x0000, None

    def chosen(self, event: Any) -> list[Dataset]:
        query = event.identifier
        found = [one for one in self.films if one.StudyInstanceUID == query.StudyInstanceUID]
        if query.QueryRetrieveLevel == "SERIES":
            found = [one for one in found if one.SeriesInstanceUID == query.SeriesInstanceUID]
        if query.QueryRetrieveLevel == "IMAGE":
            found = [one for one in found if one.SOPInstanceUID == query.SOPInstanceUID]
        found = [self.swaps.get(one.SOPInstanceUID, one) for one in found]
        self.sent += [one.SOPInstanceUID for one in found]
        return found

    def get(self, event: Any) -> Iterator[Any]:
        found = self.chosen(event)
        yield len(found)
        for one in found:
            yield PENDING, one

    def move(self, event: Any) -> Iterator[Any]:
        yield self.destinations.get(event.move_destination.strip(), (None, None))
        found = self.chosen(event)
        yield len(found)
        for one in found:
            yield PENDING, one


def matches(wanted: str, value: str) -> bool:
    """Single value, wildcard, range of dates, or everything (PS3.4 C.2.2.2)."""
    if "-" in wanted and wanted.replace("-", "").isdigit():
        since, until = wanted.split("-")
        return since <= value <= until
    return not wanted or fnmatch.fnmatchcase(value, wanted)


@contextlib.contextmanager
def archive(
    films: Sequence[Dataset],
    *,
    get: bool = True,
    move: bool = True,
    callers: Sequence[str] = (),
    tls: ssl.SSLContext | None = None,
    title: str = "ARCHIVE",
) -> Iterator[Archive]:
    """An archive on a free port; it sends under a title of its own, which pynetdicom names as the move's originator."""
    made, entity = Archive(films), AE(ae_title="ARCHIVE")
    entity.require_calling_aet = list(callers)
    entity.add_supported_context(VERIFICATION)
    entity.add_supported_context(STUDY_ROOT_FIND)
    if get:
        entity.add_supported_context(STUDY_ROOT_GET)
    if move:
        entity.add_supported_context(STUDY_ROOT_MOVE)
    for storage in STORAGE:
        entity.add_supported_context(storage, scu_role=True, scp_role=True)
        entity.add_requested_context(storage)
    handlers: list[Any] = [(evt.EVT_C_FIND, made.find), (evt.EVT_C_GET, made.get), (evt.EVT_C_MOVE, made.move)]
    handlers.append((evt.EVT_C_STORE, made.keep))
    server = entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers, ssl_context=tls)
    entity.ae_title = title
    made.port = server.server_address[1]
    try:
        yield made
    finally:
        server.shutdown()


def study(number: int, day: str, *, level: int = 128, **changes: Any) -> Dataset:
    """A film of a study of its own."""
    changes = {"StudyDate": day, "StudyTime": "101112", "PatientID": "P1", "IssuerOfPatientID": "", **changes}
    changes = {"PatientBirthDate": "19500101", "StudyInstanceUID": f"1.2.3.{number}", **changes}
    return dataset(number, level, SeriesInstanceUID=f"1.2.3.{number}.1", InstanceNumber=1, **changes)
