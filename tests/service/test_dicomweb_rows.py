"""What DICOMweb lists of an answer is what is sent of it, though the list doesn't read as much."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from tests.records.test_store import answer, film

from hilum.records.database import Database
from hilum.records.dicom_index import FILM, DicomIndex, DicomObject
from hilum.records.results_out import answer_as_sent
from hilum.records.store import Store
from hilum.records.values import HeatmapRecord, Identity
from hilum.service.dicomweb.attributes import KEPT
from hilum.service.dicomweb.indexing import film_of, results_of
from hilum.service.dicomweb.matching import COMPUTED, Query
from hilum.service.dicomweb.searching import search
from hilum.service.results_out import finding_drawn, result_of

HOW = {"preprocessing": {"size": 224}, "heatmap_top": 4.0}
FOUND = DicomObject(
    sop_instance_uid="1.2.1",
    study_instance_uid="1.2",
    series_instance_uid="1.2.3",
    sop_class_uid="1.2.840.10008.5.1.4.1.1.1.1",
    kind=FILM,
    film_id="",
)


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    opened = Database(f"sqlite:///{tmp_path / 'index.db'}")
    yield opened
    opened.close()


def maps(*findings: str) -> tuple[HeatmapRecord, ...]:
    return tuple(HeatmapRecord(finding=one, rows=1, columns=2, values=b"\0" * 8) for one in findings)


def test_a_text_that_is_no_term_stands_in_the_header_alone_and_is_found_there(database: Database) -> None:
    """Columns of their own lie as they are; the header lies encrypted."""
    odd = {"SOPClassUID": "2.25.4711", "Modality": "QANARY", "StudyDate": "QANARY11", "SOPInstanceUID": "1.2.1"}
    odd |= {"StudyInstanceUID": "1.2", "SeriesInstanceUID": "1.2.3"}
    header = {KEPT[name][0]: {"vr": KEPT[name][1], "Value": [value]} for name, value in odd.items()}
    film_id = Store(database).receive(film("a")).film_id
    own = film_of(film_id, header)
    assert (own.sop_class_uid, own.modality, own.study_date) == ("", "", "")
    usual = {
        KEPT[name][0]: {"vr": "", "Value": [value]} for name, value in (("Modality", "DX"), ("StudyDate", "20261101"))
    }
    told = film_of("b", header | usual)
    assert (told.modality, told.study_date) == ("DX", "20261101")
    index = DicomIndex(database)
    index.put([own, *results_of(own, index.known(film_id), verified=False)])
    (study,) = search(
        index, Query(level="study", keys={"ModalitiesInStudy": "QANARY"}, limit=None, offset=0, fuzzy=False), ""
    ).hits
    assert study.attributes[COMPUTED["ModalitiesInStudy"][0]]["Value"] == ["QANARY"]
    assert study.attributes[COMPUTED["SOPClassesInStudy"][0]]["Value"] == ["2.25.4711"]
    assert study.attributes[KEPT["StudyDate"][0]]["Value"] == ["QANARY11"]


@pytest.mark.parametrize("label", ["pneumonia", "covid", "normal", None])
@pytest.mark.parametrize("findings", [(), ("normal",), ("pneumonia",), ("normal", "pneumonia", "covid")])
@pytest.mark.parametrize("said", [HOW, {"preprocessing": {}}, {"heatmap_top": 4.0}, {"note": '"preprocessing":'}])
def test_a_heat_map_is_listed_where_one_is_sent(
    database: Database, label: str | None, findings: tuple[str, ...], said: dict[str, object]
) -> None:
    store, index = Store(database), DicomIndex(database)
    film_id = store.receive(film("a")).film_id
    assert store.claim("w", lease_s=60, max_attempts=3)
    one = replace(answer(), label=label, assessment={"probs": {"covid": 0.5}, **said}, heatmaps=maps(*findings))
    store.record_answer(film_id, "w", Identity(sop_instance_uid="1.2.1"), one)
    known = index.known(film_id)
    listed = results_of(replace(FOUND, film_id=film_id), known, verified=True)
    with database.read() as session:
        result = result_of(answer_as_sent(session, known.answers[0].id))
    kinds = ["report", *(["heatmap"] if result.heat is not None else [])]
    assert [row.kind for row in listed] == kinds
    assert [row.sop_instance_uid for row in listed] == [result.uid(kind, "1.2.1") for kind in kinds]


def test_of_several_maps_the_likeliest_finding_is_sent() -> None:
    both = ("covid", "normal", "pneumonia")
    assert finding_drawn("normal", both, {"covid": 0.1, "pneumonia": 0.2, "normal": 0.7}) == "pneumonia"
    assert finding_drawn(None, both, {"covid": 0.3, "pneumonia": 0.2}) == "covid"
    assert finding_drawn("covid", both, {"pneumonia": 0.9}) == "covid"
    assert finding_drawn("covid", ("pneumonia",)) is None
