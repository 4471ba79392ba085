"""Keeps what DICOMweb finds up to date: follows the events, reads headers, derives the results' UIDs."""

import re
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from hilum.errors import DataError, FilmError, ServiceError
from hilum.imaging.dicom_terms import MODALITIES, is_registered
from hilum.records.dicom_index import FILM, DicomIndex, DicomObject, Known
from hilum.records.events import FILES, KINDS, Events, FilmEvent
from hilum.service.dicom.capture import SECONDARY_CAPTURE
from hilum.service.dicom.report import COMPREHENSIVE_3D_SR
from hilum.service.dicom.uids import derived_uid
from hilum.service.dicomweb.attributes import Attributes, head_attributes, read_attributes, value_of
from hilum.service.film_files import FilmFiles
from hilum.service.logs import logger, where
from hilum.service.results_out import finding_drawn

FOLLOWER = "dicomweb"
FOLLOWED = {**KINDS, **FILES}
POLL_S = 2.0
PACE_S = 1.0
"""Shortest wait between two looks: what happens meanwhile is found by one, and a look costs more than what it finds.
After a pause the first film is found at once."""

PATIENCE_S = 5.0
"""A film that has no answer for so long is listed without one."""


DATE = re.compile(r"\d{8}", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What is to be found of one film."""

    objects: tuple[DicomObject, ...]
    """The film and its results; empty where there is nothing."""
    code: str
    """Why there is nothing, for the log; empty otherwise."""


class Indexer:
    """One thread.

    Args:
        index: where it is kept.
        events: what it follows.
        files: where films lie.
        verified: whether readers' reviews are to be had as verified reports.
    """

    def __init__(self, index: DicomIndex, events: Events, files: FilmFiles, *, verified: bool) -> None:
        self._index, self._events, self._files, self._verified = index, events, files, verified
        self._bell, self._stopping = threading.Event(), threading.Event()
        self._waiting: dict[str, float] = {}
        self._thread = threading.Thread(target=self._run, name="hilum-dicomweb", daemon=True)

    def start(self) -> None:
        """Begin to follow; films from before this version are read first."""
        self._thread.start()

    def wake(self, _: str = "") -> None:
        """Say that something happened."""
        self._bell.set()

    def stop(self, within_s: float = 5) -> None:
        """End; the rest is read at the next start."""
        self._stopping.set()
        self._bell.set()
        if self._thread.ident is not None:
            self._thread.join(within_s)

    def now(self, film_id: str) -> Known:
        """Bring one film up to date, for somebody who waits for it.

        Raises:
            ServiceError: the records are away.
        """
        found = self._find(film_id, self._index.known(film_id))
        self._index.put(found.objects, gone=() if found.objects else (film_id,))
        return self._index.known(film_id)

    def step(self) -> bool:
        """Follow one stretch of events.

        Returns:
            True when there may be more already.
        """
        stretch = self._events.behind(self._index.place(FOLLOWER), FOLLOWED)
        happened = [event.film_id for event in stretch.events if not self._just_came(event)]
        films = list(dict.fromkeys([*happened, *self._overdue()]))
        objects: list[DicomObject] = []
        gone: list[str] = []
        for film_id, known in self._index.known_all(films).items() if films else ():
            if self._stopping.is_set():
                return False
            if known.waiting and known.film is None and not self._waits_long(film_id):
                continue
            self._waiting.pop(film_id, None)
            found = self._find(film_id, known)
            objects += found.objects
            if not found.objects:
                gone.append(film_id)
        if films or stretch.more:
            self._index.put(objects, gone=gone, follower=FOLLOWER, place=stretch.place)
        return stretch.more

    def again(self) -> int:
        """Try what was passed over before: a header that could not be read then may be read by now.

        Returns:
            how many films are listed that were not.

        Raises:
            ServiceError: the records are away.
        """
        listed, after = 0, ""
        while (films := self._index.unlisted(after)) and not self._stopping.is_set():
            found = [self._find(film_id, known) for film_id, known in self._index.known_all(films).items()]
            self._index.put([one for film in found for one in film.objects])
            listed += sum(bool(film.objects) for film in found)
            after = films[-1]
        if listed:
            logger().info("films listed by DICOMweb that were not", films=listed)
        return listed

    def _just_came(self, event: FilmEvent) -> bool:
        """Whether another event of the film will most likely come soon; it is not looked at before."""
        return event.kind == "received" and not self._waits_long(event.film_id)

    def _overdue(self) -> list[str]:
        """Films that have waited for their answer for so long that they are listed before it."""
        return [film_id for film_id in self._waiting if self._waits_long(film_id)]

    def _waits_long(self, film_id: str) -> bool:
        """Most films are answered in a moment, and are then listed at once with their results and read once."""
        return time.monotonic() - self._waiting.setdefault(film_id, time.monotonic()) >= PATIENCE_S

    def _run(self) -> None:
        retried = False
        while not self._stopping.is_set():
            self._bell.clear()
            try:
                if not retried:
                    self.again()
                    retried = True
                while self.step() and not self._stopping.is_set():
                    pass
            except ServiceError as error:
                logger().error("records away", reason=str(error))
            except Exception as error:
                logger().error("DICOMweb index stumbled", **where(error))
            self._stopping.wait(PACE_S)
            self._bell.wait(POLL_S)

    def _find(self, film_id: str, known: Known) -> Found:
        if not known.usable:
            return Found(objects=(), code="not-usable")
        try:
            film = known.film or self._read(film_id, known)
        except (FilmError, DataError) as error:
            code = error.code if isinstance(error, FilmError) else "unreadable"
            logger().info("film not listed by DICOMweb", film=film_id, code=code)
            return Found(objects=(), code=code)
        return Found(objects=(film, *results_of(film, known, verified=self._verified)), code="")

    def _read(self, film_id: str, known: Known) -> DicomObject:
        stored = self._files.film(known.file_sha256)
        header = next(filter(None, map(head_attributes, stored.heads())), None) if known.was_read else None
        return film_of(film_id, header or read_attributes(stored.read_bytes()))


def film_of(film_id: str, header: Attributes) -> DicomObject:
    """A film's own row, from its header.

    Columns that lie as they are hold terms and dates of the standard's own, so that no name is among them; what the
    film says instead is in its header, which lies encrypted.
    """
    sop_class, modality, date = (value_of(header, name) for name in ("SOPClassUID", "Modality", "StudyDate"))
    return DicomObject(
        sop_instance_uid=value_of(header, "SOPInstanceUID"),
        study_instance_uid=value_of(header, "StudyInstanceUID"),
        series_instance_uid=value_of(header, "SeriesInstanceUID"),
        sop_class_uid=sop_class if is_registered(sop_class) else "",
        kind=FILM,
        film_id=film_id,
        modality=modality if modality in MODALITIES else "",
        study_date=date if DATE.fullmatch(date) else "",
        header=header,
    )


def results_of(film: DicomObject, known: Known, *, verified: bool) -> Sequence[DicomObject]:
    """Rows of what can be made from a film's answers and reviews: the UIDs are those that are sent."""
    found: list[DicomObject] = []
    for answer in known.answers:
        version = known.content_sha256, answer.model_sha256
        report = replace(
            film,
            kind="report",
            answer_id=answer.id,
            sop_class_uid=COMPREHENSIVE_3D_SR,
            sop_instance_uid=derived_uid("report", film.sop_instance_uid, *version),
            series_instance_uid=derived_uid("report-series", film.study_instance_uid, answer.model_sha256),
            modality="SR",
        )
        found.append(report)
        if answer.drawable and finding_drawn(answer.label, answer.maps) is not None:
            heatmap = replace(
                report,
                kind="heatmap",
                sop_class_uid=SECONDARY_CAPTURE,
                sop_instance_uid=derived_uid("heatmap", film.sop_instance_uid, *version),
                series_instance_uid=derived_uid("heatmap-series", film.study_instance_uid, answer.model_sha256),
                modality="OT",
            )
            found.append(heatmap)
        for review_id in answer.reviews if verified else ():
            uid = derived_uid("verified-report", film.sop_instance_uid, *version, review_id)
            found.append(replace(report, kind="verified-report", review_id=review_id, sop_instance_uid=uid))
    return found
