"""Earlier frontal chest films of a patient in a PACS: which studies, which series, which films."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any, Literal

from hilum.service.dicom.patients import Patient, asked_with, patient_of, same_patient, text_of

Level = Literal["STUDY", "SERIES", "IMAGE"]
Ask = Callable[[Level, Mapping[str, str]], Sequence[Any]]
"""Gives the answers of a C-FIND: data sets."""

FILMS = {"1.2.840.10008.5.1.4.1.1.1": "CR", "1.2.840.10008.5.1.4.1.1.1.1": "DX"}
"""SOP classes that may be priors, with their modality."""

CHEST = frozenset(("CHEST", "THORAX", ""))
"""Body parts that may be chests; an empty one is not recorded."""

UID = re.compile(r"[0-9.]{1,64}")
STUDIES_LOOKED_INTO = 20
FILMS_A_STUDY = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Film:
    """What a film says of itself."""

    patient: Patient
    """Who it is of."""
    charset: tuple[str, ...]
    """Specific Character Set; empty when there is none."""
    study_instance_uid: str
    """Its study."""
    accession_number: str
    """Accession Number."""
    taken: tuple[str, str]
    """Study Date and Study Time as ``YYYYMMDD`` and ``HHMMSS…``; empty where not recorded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A film in the PACS."""

    study_instance_uid: str
    """Study Instance UID."""
    series_instance_uid: str
    """Series Instance UID."""
    sop_instance_uid: str
    """SOP Instance UID."""


def find_priors(ask: Ask, film: Film, *, years: float, count: int, today: date) -> list[Found]:
    """Frontal chest films of the latest earlier studies of a film's patient.

    Args:
        ask: asks the PACS.
        film: the new film.
        years: how far back.
        count: most studies.
        today: stands in for a study date that is not recorded.

    Returns:
        the films, those of the latest study first.

    Raises:
        Ambiguous: the film doesn't say well enough whose it is.
        Unfetched: the PACS does not answer.
    """
    until = _day(film.taken[0]) or today
    since = until - timedelta(days=round(365.25 * years))
    studies = find_studies(ask, film.patient, film.charset, dates=f"{since:%Y%m%d}-{until:%Y%m%d}")
    taken = (f"{until:%Y%m%d}", film.taken[1])
    earlier = sorted(
        ((when, uid) for study in studies if (uid := _uid(study)) and (when := _earlier(study, film, taken, since))),
        reverse=True,
    )
    chosen: list[Found] = []
    looked_into = 0
    for _, uid in earlier[:STUDIES_LOOKED_INTO]:
        films = list(_frontal_films(ask, uid))[:FILMS_A_STUDY]
        chosen += films
        looked_into += bool(films)
        if looked_into == count:
            break
    return chosen


def find_studies(ask: Ask, patient: Patient, charset: Sequence[str] = (), *, dates: str = "") -> list[Any]:
    """Studies that are certainly of a patient, as data sets.

    Args:
        ask: asks the PACS.
        patient: whose.
        charset: Specific Character Set of the patient's id.
        dates: study dates as a range; empty for all.

    Raises:
        Ambiguous: the patient is not named well enough.
        Unfetched: the PACS does not answer.
    """
    keys = {
        "PatientID": asked_with(patient),
        "IssuerOfPatientID": "",  # compared here: a PACS that keeps none would otherwise find nothing
        "PatientBirthDate": "",
        "StudyInstanceUID": "",
        "StudyDate": dates,
        "StudyTime": "",
        "ModalitiesInStudy": "",
        "StudyDescription": "",
    }
    if charset and not patient.patient_id.isascii():
        keys["SpecificCharacterSet"] = "\\".join(charset)
    return same_patient(patient, [(patient_of(one), one) for one in ask("STUDY", keys)])


def series_of_films(ask: Ask, study_uid: str) -> list[str]:
    """Series instance UIDs of a study's radiographs, of whatever body part."""
    found = ask("SERIES", {"StudyInstanceUID": study_uid, "SeriesInstanceUID": "", "Modality": ""})
    of_films = (one for one in found if text_of(one, "Modality") in FILMS.values())
    return [uid for one in of_films if UID.fullmatch(uid := text_of(one, "SeriesInstanceUID"))]


def _earlier(study: Any, film: Film, taken: tuple[str, str], since: date) -> tuple[str, str] | None:
    """When a study was taken, where that is before the film's own and it may hold radiographs; None otherwise."""
    if text_of(study, "StudyInstanceUID") == film.study_instance_uid:
        return None
    modalities = set(text_of(study, "ModalitiesInStudy").split("\\")) - {""}
    if modalities and not modalities & set(FILMS.values()):
        return None
    day, time = text_of(study, "StudyDate"), text_of(study, "StudyTime")
    when = _day(day)
    if when is None or when < since:
        return None
    same_day_before = day == taken[0] and bool(time and taken[1]) and time < taken[1]
    return (day, time) if day < taken[0] or same_day_before else None


def _frontal_films(ask: Ask, study_uid: str) -> Iterator[Found]:
    keys = {"StudyInstanceUID": study_uid, "SeriesInstanceUID": "", "Modality": "", "BodyPartExamined": ""}
    for series in ask("SERIES", keys):
        uid, modality = text_of(series, "SeriesInstanceUID"), text_of(series, "Modality")
        chest = text_of(series, "BodyPartExamined").upper() in CHEST
        if UID.fullmatch(uid) and modality in FILMS.values() and chest:
            yield from _films_of_series(ask, study_uid, uid)


def _films_of_series(ask: Ask, study_uid: str, series_uid: str) -> Iterator[Found]:
    keys = {
        "StudyInstanceUID": study_uid,
        "SeriesInstanceUID": series_uid,
        "SOPInstanceUID": "",
        "SOPClassUID": "",
        "InstanceNumber": "",
        "ViewPosition": "",
    }
    for one in ask("IMAGE", keys):
        uid, kind = text_of(one, "SOPInstanceUID"), text_of(one, "SOPClassUID")
        view = text_of(one, "ViewPosition").upper()
        frontal = not view or view.startswith(("PA", "AP"))
        if UID.fullmatch(uid) and (not kind or kind in FILMS) and frontal:
            yield Found(study_instance_uid=study_uid, series_instance_uid=series_uid, sop_instance_uid=uid)


def _uid(study: Any) -> str:
    uid = text_of(study, "StudyInstanceUID")
    return uid if UID.fullmatch(uid) else ""


def _day(text: str) -> date | None:
    try:
        return date(int(text[:4]), int(text[4:6]), int(text[6:8])) if re.fullmatch(r"\d{8}", text) else None
    except ValueError:
        return None
