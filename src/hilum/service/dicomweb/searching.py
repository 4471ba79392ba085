"""Find studies, series and instances (QIDO-RS, PS3.18 section 10.6)."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from hilum.errors import ServiceError
from hilum.records.dicom_index import FILM, DicomIndex, DicomObject, Narrowing
from hilum.service.dicom import capture, report
from hilum.service.dicom.part10 import EXPLICIT_LITTLE_ENDIAN
from hilum.service.dicomweb.attributes import INSTANCE, KEPT, SERIES, STUDY, Attributes, value_of
from hilum.service.dicomweb.matching import COMPUTED, Query, matcher, split_uids

MOST_RESULTS, MOST_STUDIES, STUDIES_AT_ONCE = 1000, 20_000, 200
UTF8 = "ISO_IR 192"
RETRIEVE_URL = "00081190"
SERIES_OF: Mapping[str, tuple[int, str]] = {
    "report": (report.SERIES_NUMBER, report.SERIES_DESCRIPTION),
    "verified-report": (report.SERIES_NUMBER, report.SERIES_DESCRIPTION),
    "heatmap": (capture.SERIES_NUMBER, capture.SERIES_DESCRIPTION),
}
"""Number and description of the series that results are in."""

FILMS_OWN = (*SERIES, *INSTANCE)
"""What a result does not take over from its film's header."""


class TooBroad(ServiceError):
    """A search would have to look at too many studies."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hit:
    """One result of a search."""

    attributes: Attributes
    """What is told of it."""
    objects: tuple[DicomObject, ...]
    """The objects that it stands for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hits:
    """One page of results."""

    hits: tuple[Hit, ...]
    """In a stable order: newest study first."""
    more: bool
    """True when there are further ones."""


def search(index: DicomIndex, query: Query, base_url: str) -> Hits:
    """One page of what matches.

    Args:
        index: where it is looked for.
        query: what.
        base_url: of this DICOMweb service, without a slash at the end.

    Raises:
        TooBroad: more studies than can be looked at, and nothing narrows them down.
    """
    matchers = [matcher(keyword, asked) for keyword, asked in query.keys.items() if asked.strip("*")]
    limit = min(MOST_RESULTS, query.limit if query.limit is not None else MOST_RESULTS)
    found: list[Hit] = []
    left_out = 0
    for hit in _hits(index, query, base_url):
        if not all(matches(hit.attributes) for matches in matchers):
            continue
        if left_out < query.offset:
            left_out += 1
            continue
        if len(found) >= limit:
            return Hits(hits=tuple(found), more=True)
        found.append(hit)
    return Hits(hits=tuple(found), more=False)


def _hits(index: DicomIndex, query: Query, base_url: str) -> Iterator[Hit]:
    narrowing = _narrowing(query)
    for offset in range(0, MOST_STUDIES, STUDIES_AT_ONCE):
        uids = index.study_uids(narrowing, offset=offset, limit=STUDIES_AT_ONCE)
        for uid, objects in index.objects(uids).items():
            if objects:
                yield from _of_study(query.level, objects, f"{base_url}/studies/{uid}")
        if len(uids) < STUDIES_AT_ONCE:
            return
    raise TooBroad(
        f"The search is too broad: more than {MOST_STUDIES} studies would have to be looked at. Narrow it by "
        "StudyDate or StudyInstanceUID, or ask for fewer with limit."
    )


def _narrowing(query: Query) -> Narrowing:
    uids = {name: split_uids(query.keys.get(name, "")) for name in KEPT if name.endswith("InstanceUID")}
    first, dash, last = query.keys.get("StudyDate", "").partition("-")
    dates = (first, last if dash else first) if first or last else None
    return Narrowing(
        study_uids=uids["StudyInstanceUID"],
        series_uids=uids["SeriesInstanceUID"],
        sop_uids=uids["SOPInstanceUID"],
        dates=dates,
    )


def _of_study(level: str, objects: list[DicomObject], url: str) -> Iterator[Hit]:
    series: dict[str, list[DicomObject]] = {}
    for one in objects:
        series.setdefault(one.series_instance_uid, []).append(one)
    study = _study(objects, len(series))
    if level == "study":
        yield _hit(study, objects, url)
        return
    for uid, members in series.items():
        at_series = study | _only(attributes_of(members[0]), SERIES)
        at_series[COMPUTED["NumberOfSeriesRelatedInstances"][0]] = {"vr": "IS", "Value": [len(members)]}
        if level == "series":
            yield _hit(at_series, members, f"{url}/series/{uid}")
            continue
        for one in members:
            attributes = at_series | _only(attributes_of(one), {**SERIES, **INSTANCE})
            yield _hit(attributes, [one], f"{url}/series/{uid}/instances/{one.sop_instance_uid}")


def _hit(attributes: Attributes, objects: list[DicomObject], url: str) -> Hit:
    told = attributes | {
        "00080005": {"vr": "CS", "Value": [UTF8]},
        COMPUTED["InstanceAvailability"][0]: {"vr": "CS", "Value": ["ONLINE"]},
        RETRIEVE_URL: {"vr": "UR", "Value": [url]},
    }
    return Hit(attributes=dict(sorted(told.items())), objects=tuple(objects))


def _study(objects: list[DicomObject], series: int) -> Attributes:
    def values(tag: str, vr: str, *found: Any) -> Attributes:
        return {tag: {"vr": vr, "Value": list(found)}}

    of = {name: tag for name, (tag, _) in COMPUTED.items()}
    modalities = sorted({_told(one, "Modality", one.modality) for one in objects} - {""})
    classes = sorted({_told(one, "SOPClassUID", one.sop_class_uid) for one in objects})
    return (
        _only(dict(objects[0].header), STUDY)
        | values(of["ModalitiesInStudy"], "CS", *modalities)
        | values(of["SOPClassesInStudy"], "UI", *classes)
        | values(of["NumberOfStudyRelatedSeries"], "IS", series)
        | values(of["NumberOfStudyRelatedInstances"], "IS", len(objects))
    )


def _told(one: DicomObject, keyword: str, kept: str) -> str:
    """A value that its row holds; of a film whose value is none of the standard's, what its header says."""
    return kept if kept or one.kind != FILM else value_of(dict(one.header), keyword)


def attributes_of(one: DicomObject) -> Attributes:
    """What is told of an object: a film's own header, or what a result takes over from it and has of its own."""
    header: Attributes = dict(one.header)
    if one.kind == FILM:
        return header
    number = header.get(KEPT["InstanceNumber"][0])
    for name in FILMS_OWN:
        header.pop(KEPT[name][0], None)
    series_number, description = SERIES_OF[one.kind]
    own: dict[str, Any] = {
        "Modality": one.modality,
        "SeriesDescription": description,
        "SeriesInstanceUID": one.series_instance_uid,
        "SeriesNumber": series_number,
        "SOPClassUID": one.sop_class_uid,
        "SOPInstanceUID": one.sop_instance_uid,
        "AvailableTransferSyntaxUID": EXPLICIT_LITTLE_ENDIAN,
    }
    header |= {KEPT[name][0]: {"vr": KEPT[name][1], "Value": [value]} for name, value in own.items()}
    return header | ({KEPT["InstanceNumber"][0]: number} if number else {})


def _only(attributes: Attributes, names: Mapping[str, tuple[str, str]]) -> Attributes:
    return {tag: attributes[tag] for tag, _ in names.values() if tag in attributes}
