"""Ask a PACS: is it there (C-ECHO), what has it (C-FIND), give it (C-GET, or C-MOVE to our own listener)."""

import contextlib
import ssl
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from hilum.service.destinations import Destination
from hilum.service.dicom.classes import TRANSFER_SYNTAXES, VERIFICATION
from hilum.service.dicom.priors import FILMS, Found, Level, series_of_films
from hilum.service.dicom.unfetched import Unfetched

STUDY_ROOT_FIND = "1.2.840.10008.5.1.4.1.2.2.1"
STUDY_ROOT_MOVE = "1.2.840.10008.5.1.4.1.2.2.2"
STUDY_ROOT_GET = "1.2.840.10008.5.1.4.1.2.2.3"
EXPLICIT, IMPLICIT = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2"

MIB = 1024 * 1024
ANSWER_BYTES = 64 * 1024
"""Largest answer to a C-FIND; those of a study have a few hundred bytes."""

MOST_ANSWERS = 1000
"""Beyond this a query was not about one patient, or the peer never ends."""

PENDING = (0xFF00, 0xFF01)
DESTINATION_UNKNOWN = 0xA801

Way = Literal["get", "move"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pacs:
    """How a PACS is reached."""

    node: Destination
    """Where it is."""
    calling: str
    """Our AE title, which is also where C-MOVE sends to."""
    tls: Callable[[], ssl.SSLContext] | None = None
    """Gives how its certificate is checked now; needed when the node wants TLS."""
    timeout_s: float = 60
    """Longest wait for a connection or an answer."""
    deadline_s: float = 900
    """An association ends after so long."""
    largest_film_bytes: int = 128 * MIB
    """Largest film that it may send over C-GET."""


def what_it_takes(pacs: Pacs) -> dict[str, bool]:
    """Ask by C-ECHO whether it is there, and see what it lets us do.

    Returns:
        by service (``echo``, ``find``, ``get``, ``move``): is it allowed, and did C-ECHO succeed?

    Raises:
        Unfetched: it gives no association.
    """
    with _open(pacs, [VERIFICATION, STUDY_ROOT_FIND, STUDY_ROOT_GET, STUDY_ROOT_MOVE]) as association:
        taken = _taken(association)
        well = VERIFICATION in taken and association.send_c_echo().get("Status") == 0x0000
        names = {"find": STUDY_ROOT_FIND, "get": STUDY_ROOT_GET, "move": STUDY_ROOT_MOVE}
        return {"echo": well} | {name: uid in taken for name, uid in names.items()}


def try_a_query(pacs: Pacs) -> None:
    """Ask by C-FIND for a study that nobody has: some offer C-FIND to all and answer only those whom they know.

    Raises:
        Unfetched: no association, or no answer.
    """
    with asking(pacs) as ask:
        ask("STUDY", {"StudyInstanceUID": f"2.25.{uuid.uuid4().int}"})


@contextlib.contextmanager
def asking(pacs: Pacs) -> Iterator[Callable[[Level, Mapping[str, str]], Sequence[Any]]]:
    """An association to ask by C-FIND, in the Study Root model.

    Yields:
        a function of the level and the keys (matching keys with a value, return keys without) that gives the answers.

    Raises:
        Unfetched: no association, or no answer.
    """
    with _open(pacs, [STUDY_ROOT_FIND], largest_message=ANSWER_BYTES) as association:
        yield lambda level, keys: _find(association, pacs, level, keys)


def fetch(
    pacs: Pacs, films: Sequence[Found], *, way: Literal["auto", "get", "move"], keep: Callable[[Any], int]
) -> Way:
    """Fetch films: by C-GET where the PACS offers it, by C-MOVE to our own listener otherwise.

    Args:
        pacs: where from.
        films: which.
        way: ``get`` or ``move`` where only that will do.
        keep: gives the status of a C-STORE that comes with C-GET; after 0x0000 the film is durable.

    Returns:
        the way that was taken.

    Raises:
        Unfetched: not all of it could be done; fetching all of it again does no harm.
    """
    from pynetdicom.presentation import build_context, build_role

    contexts = [
        build_context(STUDY_ROOT_GET, [EXPLICIT, IMPLICIT]),
        build_context(STUDY_ROOT_MOVE, [EXPLICIT, IMPLICIT]),
    ]
    # One context for each transfer syntax: the PACS then sends films as they lie there, compressed or not.
    contexts += [build_context(storage, syntax) for storage in FILMS for syntax in TRANSFER_SYNTAXES]
    roles = [build_role(storage, scp_role=True) for storage in FILMS]
    with _open(pacs, contexts, roles=roles, keep=keep, largest_message=pacs.largest_film_bytes + MIB) as association:
        taken = _taken(association)
        chosen = _way(taken, way, pacs)
        for one in films:
            _retrieve(association, pacs, one, chosen)
        return chosen


def move_study(pacs: Pacs, study_instance_uid: str) -> int:
    """Have a study's films sent to our listener by C-MOVE, series by series; it takes them as it takes any.

    Other series stay there: a report, our own among them, is refused by the listener, and a PACS may stop at that.

    Returns:
        series that were sent.

    Raises:
        Unfetched: the PACS has no series of radiographs in it, or does not send them.
    """
    with _open(pacs, [STUDY_ROOT_FIND, STUDY_ROOT_MOVE]) as association:
        _way(_taken(association), "move", pacs)
        series = series_of_films(lambda level, keys: _find(association, pacs, level, keys), study_instance_uid)
        if not series:
            raise Unfetched(
                f"{pacs.node.ae_title} has no CR or DX series in the study {study_instance_uid}. hilum pacs find lists "
                "a patient's studies with their modalities.",
                code="nothing-there",
                permanent=True,
            )
        for one in series:
            keys = {"QueryRetrieveLevel": "SERIES", "StudyInstanceUID": study_instance_uid, "SeriesInstanceUID": one}
            _finish(association.send_c_move(_data_set(keys), pacs.calling, STUDY_ROOT_MOVE), pacs)
        return len(series)


def _way(taken: frozenset[str], wanted: str, pacs: Pacs) -> Way:
    gets = STUDY_ROOT_GET in taken and bool(taken & set(FILMS))
    if gets and wanted != "move":
        return "get"
    if STUDY_ROOT_MOVE in taken and wanted != "get":
        return "move"
    kinds = {"auto": "neither C-GET nor C-MOVE", "get": "no C-GET", "move": "no C-MOVE"}[wanted]
    raise Unfetched(
        f"{pacs.node.ae_title} offers {kinds}. Allow retrieve there for {pacs.calling}.",
        code="sop-class",
        permanent=True,
    )


def _retrieve(association: Any, pacs: Pacs, film: Found, way: Way) -> None:
    keys = _data_set(
        {
            "QueryRetrieveLevel": "IMAGE",
            "StudyInstanceUID": film.study_instance_uid,
            "SeriesInstanceUID": film.series_instance_uid,
            "SOPInstanceUID": film.sop_instance_uid,
        }
    )
    if way == "get":
        _finish(association.send_c_get(keys, STUDY_ROOT_GET), pacs)
    else:
        _finish(association.send_c_move(keys, pacs.calling, STUDY_ROOT_MOVE), pacs)


def _finish(answers: Any, pacs: Pacs) -> None:
    """Take the answers of C-GET or C-MOVE to the last one."""
    title, status = pacs.node.ae_title, None
    for answer, _ in answers:
        status = answer.get("Status")
        if status not in PENDING:
            break
    if status is None or status in PENDING:
        raise Unfetched(f"{title} did not finish a retrieve{_broken_off(pacs)}", code="no-answer")
    if status == DESTINATION_UNKNOWN:
        raise Unfetched(
            f"{title} does not know {pacs.calling} as a place to send to (status 0xA801). Make it known there with "
            "this host and our DICOM port.",
            code="status-a801",
            permanent=True,
        )
    if status != 0x0000:
        # 0xA9xx and 0xCxxx would be answered the same again; 0xB000 and 0xA70x may pass.
        permanent = status & 0xFF00 == 0xA900 or status & 0xF000 == 0xC000
        raise Unfetched(
            f"{title} could not send what was asked for (status 0x{status:04X}). See its log.",
            code=f"status-{status:04x}",
            permanent=permanent,
        )


def _find(association: Any, pacs: Pacs, level: Level, keys: Mapping[str, str]) -> list[Any]:
    found: list[Any] = []
    title = pacs.node.ae_title
    query = _data_set({"QueryRetrieveLevel": level, **keys})
    for answer, dataset in association.send_c_find(query, STUDY_ROOT_FIND):
        status = answer.get("Status")
        if status is None:
            break
        if status not in PENDING:
            if status == 0x0000:
                return found
            raise Unfetched(
                f"{title} could not answer a query (C-FIND status 0x{status:04X}). See its log.",
                code=f"status-{status:04x}",
                permanent=status & 0xFF00 == 0xA900,
            )
        if dataset is None:
            raise Unfetched(
                f"{title} gives an answer to a query that can't be read. See its log.", code="unreadable-answer"
            )
        found.append(dataset)
        if len(found) > MOST_ANSWERS:
            association.abort()
            raise Unfetched(
                f"{title} gives more than {MOST_ANSWERS} answers to a query about one patient, so it did not "
                "use the patient's id. Check its queries.",
                code="too-many-answers",
                permanent=True,
            )
    raise Unfetched(f"{title} did not answer a query{_broken_off(pacs)}", code="no-answer")


def _broken_off(pacs: Pacs) -> str:
    """What to look at when an association ended without an answer: so does who offers a service to all callers."""
    return f". See its log; and make {pacs.calling} known there, where it answers only those whom it knows."


def _data_set(values: Mapping[str, str]) -> Any:
    from pydicom.dataset import Dataset

    made = Dataset()
    for keyword, value in values.items():
        setattr(made, keyword, value.split("\\") if keyword == "SpecificCharacterSet" else value)
    return made


def _taken(association: Any) -> frozenset[str]:
    return frozenset(str(context.abstract_syntax) for context in association.accepted_contexts)


@contextlib.contextmanager
def _open(pacs: Pacs, contexts: Sequence[Any], *, largest_message: int = ANSWER_BYTES, **more: Any) -> Iterator[Any]:
    from pynetdicom.presentation import build_context

    from hilum.service.dicom.calling import associated

    wanted = [build_context(one, [EXPLICIT, IMPLICIT]) if isinstance(one, str) else one for one in contexts]
    with associated(
        pacs.node,
        wanted,
        calling=pacs.calling,
        tls=pacs.tls() if pacs.tls else None,
        timeout_s=pacs.timeout_s,
        deadline_s=pacs.deadline_s,
        largest_message=largest_message,
        **more,
    ) as association:
        yield association
