"""DICOMweb as dicomweb-client sees it: films are stored, found with their results, and fetched byte for byte."""

import hashlib
import io
import time
from collections.abc import Iterator

import httpx
import pydicom
import pytest
from dicomweb_client.api import DICOMwebClient
from requests import HTTPError
from tests.bundle.small import small_bundle
from tests.inference.films import film
from tests.service.conftest import let_in

from hilum.records.audit import entries
from hilum.records.erasure import Eraser
from hilum.records.store import now
from hilum.records.unread import unread
from hilum.service.app import Running, running
from hilum.service.dicom import capture, report
from hilum.service.settings import read_settings

WRONG = (
    "StudyDate=yesterday",
    "Unknown=1",
    "PixelData=1",
    "limit=-1",
    "StudyInstanceUID=a",
    "fuzzymatching=9",
    "Rows=2",
    "StudyTime=x",
)
REPORT, CAPTURE = report.COMPREHENSIVE_3D_SR, capture.SECONDARY_CAPTURE


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("dicomweb")
    settings = read_settings(
        without_dicom=True,
        bundle=small_bundle(folder / "small.hilum"),
        data=folder / "data",
        port=0,
        least_free_mb=1,
        results_organization="St. Synthetic",
    )
    with running(settings) as started:
        yield started


@pytest.fixture
def web(service: Running) -> Iterator[DICOMwebClient]:
    client = DICOMwebClient(f"{service.url}/dicom-web", headers=let_in(service), timeout=60)
    client.set_http_retry_params(retry=False)
    yield client
    client._session.close()


@pytest.fixture
def raw(service: Running) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=f"{service.url}/dicom-web", headers=let_in(service), timeout=60) as client:
        yield client


def read(content: bytes) -> pydicom.Dataset:
    return pydicom.dcmread(io.BytesIO(content))


def answered(service: Running) -> None:
    """Wait until every film that came is answered and listed, whichever tests ran before."""
    deadline = time.monotonic() + 60
    while {"received", "preparing"} & service.room.store.counts().keys() or service.room.dicomweb.indexer.step():
        assert time.monotonic() < deadline, service.room.store.counts()
        time.sleep(0.05)


@pytest.fixture(scope="module")
def sent(service: Running) -> bytes:
    """A film that was stored and answered, with its results."""
    content = film(1, patient_name="Żółć^Synthetic", accession_number="A-17", study_date="20261101")
    client = DICOMwebClient(f"{service.url}/dicom-web", headers=let_in(service), timeout=60)
    told = client.store_instances([read(content)])
    client._session.close()
    assert "FailedSOPSequence" not in told
    assert [one.ReferencedSOPInstanceUID for one in told.ReferencedSOPSequence] == [read(content).SOPInstanceUID]
    answered(service)
    return content


def test_a_stored_film_is_found_with_its_results_at_every_level(web: DICOMwebClient, sent: bytes) -> None:
    source = read(sent)
    (study,) = web.search_for_studies(search_filters={"StudyInstanceUID": source.StudyInstanceUID})
    found = pydicom.Dataset.from_json(study)
    assert str(found.PatientName) == "Żółć^Synthetic"
    assert (found.AccessionNumber, found.StudyDate, found.PatientID) == ("A-17", "20261101", source.PatientID)
    assert sorted(found.ModalitiesInStudy) == ["DX", "OT", "SR"]
    assert (found.NumberOfStudyRelatedSeries, found.NumberOfStudyRelatedInstances) == (3, 3)
    series = [pydicom.Dataset.from_json(one) for one in web.search_for_series(source.StudyInstanceUID)]
    assert {one.Modality: one.get("SeriesNumber") for one in series if one.Modality != "DX"} == {"SR": 9001, "OT": 9002}
    instances = [pydicom.Dataset.from_json(one) for one in web.search_for_instances(source.StudyInstanceUID)]
    assert {one.SOPClassUID for one in instances} == {source.SOPClassUID, REPORT, CAPTURE}
    (own,) = (one for one in instances if one.SOPInstanceUID == source.SOPInstanceUID)
    assert (own.Rows, own.Columns, own.BitsAllocated) == (source.Rows, source.Columns, source.BitsAllocated)


def test_what_was_stored_comes_back_byte_for_byte_and_results_as_they_are_sent(
    web: DICOMwebClient, raw: httpx.Client, service: Running, sent: bytes
) -> None:
    source = read(sent)
    objects = {one.SOPClassUID: one for one in web.retrieve_study(source.StudyInstanceUID)}
    assert set(objects) == {source.SOPClassUID, REPORT, CAPTURE}
    assert objects[source.SOPClassUID] == source
    assert objects[REPORT].VerificationFlag == "UNVERIFIED"
    assert objects[REPORT].PatientName == source.PatientName
    listed = {one["00080016"]["Value"][0]: one for one in web.search_for_instances(source.StudyInstanceUID)}
    for kind, made in objects.items():
        # What a search says of an object is what the object says.
        own = ("SOPInstanceUID", "SeriesInstanceUID", "Modality", "SeriesNumber", "SeriesDescription", "InstanceNumber")
        for keyword in own:
            told = pydicom.Dataset.from_json(listed[kind]).get(keyword)
            assert (told or None) == (made.get(keyword) or None), (kind, keyword)
    address = listed[source.SOPClassUID]["00081190"]["Value"][0]
    whole = raw.get(address, headers={"Accept": "application/dicom"})
    study = source.StudyInstanceUID
    (film_id,) = {one.film_id for one in service.room.dicomweb.index.objects([study])[study]}
    kept = service.room.store.film(film_id)
    assert kept is not None
    assert whole.content == service.room.intake.files.path(kept.file_sha256).read_bytes()
    assert hashlib.sha256(whole.content).hexdigest() == kept.file_sha256, "what REST tells as its digest"
    assert whole.headers["content-type"] == "application/dicom; transfer-syntax=1.2.840.10008.1.2.1"
    (again,) = web.retrieve_series(source.StudyInstanceUID, objects[REPORT].SeriesInstanceUID)
    assert again == objects[REPORT], "made twice, it is the same"


def test_metadata_leads_to_the_pixels_and_frames_are_as_stored(web: DICOMwebClient, sent: bytes) -> None:
    source = read(sent)
    uids = (source.StudyInstanceUID, source.SeriesInstanceUID, source.SOPInstanceUID)
    told = web.retrieve_instance_metadata(*uids)
    assert told["00100010"]["Value"][0]["Alphabetic"] == "Żółć^Synthetic"
    assert told["7FE00010"]["vr"] == "OW"
    (pixels,) = web.retrieve_bulkdata(told["7FE00010"]["BulkDataURI"])
    (frame,) = web.retrieve_instance_frames(*uids, [1])
    assert pixels == frame == source.PixelData
    assert len(web.retrieve_study_metadata(source.StudyInstanceUID)) == 3
    with pytest.raises(HTTPError, match="404"):
        web.retrieve_instance_frames(*uids, [2])


def test_a_review_is_listed_and_fetched_as_a_verified_report(
    web: DICOMwebClient, service: Running, sent: bytes
) -> None:
    content = film(2)
    web.store_instances([read(content)])
    answered(service)
    uid, index = read(content).StudyInstanceUID, service.room.dicomweb.index
    film_id = index.objects([uid])[uid][0].film_id
    service.room.reviews.put(film_id, "ada", decision="override", finding="normal", comment="", over=0)
    service.room.dicomweb.indexer.now(film_id)
    (verified,) = (one for one in web.retrieve_study(uid) if one.get("VerificationFlag") == "VERIFIED")
    assert str(verified.VerifyingObserverSequence[0].VerifyingObserverName) == "ada"
    assert verified.SOPInstanceUID in {one["00080018"]["Value"][0] for one in web.search_for_instances(uid)}


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ({"PatientName": "żółć*"}, True),
        ({"PatientName": "?ółć^synthetic"}, True),
        ({"PatientName": "Other*"}, False),
        ({"00100020": "SYN1"}, True),
        ({"PatientID": "syn1"}, False),
        ({"StudyDate": "20261101"}, True),
        ({"StudyDate": "20261001-20261130"}, True),
        ({"StudyDate": "20261102-"}, False),
        ({"StudyDate": "-20261101"}, True),
        ({"StudyDate": ""}, True),
        ({"AccessionNumber": "A-1?"}, True),
        ({"AccessionNumber": "A-[1]7"}, False),
        ({"ModalitiesInStudy": "SR"}, True),
        ({"ModalitiesInStudy": "CT"}, False),
        ({"NumberOfStudyRelatedInstances": "3"}, True),
    ],
)
def test_matching(web: DICOMwebClient, sent: bytes, asked: dict[str, str], found: bool) -> None:
    uids = [one["0020000D"]["Value"][0] for one in web.search_for_studies(search_filters=asked)]
    assert (read(sent).StudyInstanceUID in uids) is found


def test_pages_and_what_is_not_supported_are_told(raw: httpx.Client, web: DICOMwebClient, sent: bytes) -> None:
    uid = read(sent).StudyInstanceUID
    everything = raw.get(f"/studies/{uid}/instances").json()
    pages = [raw.get(f"/studies/{uid}/instances", params={"limit": 1, "offset": n}) for n in range(4)]
    assert [page.json()[0] for page in pages[:3]] == everything
    assert (pages[3].status_code, pages[3].content) == (204, b"")
    fuzzy = raw.get("/studies", params={"PatientName": "Synthetic", "fuzzymatching": "true"})
    assert "Only literal matching has been performed." in fuzzy.headers["warning"]
    (other,) = raw.get("/instances", params={"SOPInstanceUID": everything[1]["00080018"]["Value"][0]}).json()
    assert other == everything[1]
    (series,) = raw.get("/series", params={"StudyInstanceUID": f"{uid},1.2", "Modality": "SR"}).json()
    assert series["00080060"]["Value"] == ["SR"]
    assert raw.get(f"/studies/{uid}/series", params={"StudyInstanceUID": "1.2"}).status_code == 204
    for query in WRONG:
        refused = raw.get(f"/studies?{query}")
        assert (refused.status_code, refused.headers["content-type"]) == (422, "application/problem+json"), query
    assert raw.get("/studies", headers={"Accept": "text/html;q=0.5, application/pdf"}).status_code == 406
    for path in ("/studies/1.2.3", f"/studies/{uid}/series/1.2", f"/studies/{uid}/metadata/x", "/studies/1.2/metadata"):
        assert raw.get(path).status_code == 404
    assert raw.get("/studies/a").status_code == 422
    syntax = 'multipart/related; type="application/dicom"; transfer-syntax=1.2.840.10008.1.2.4.70'
    refused = raw.get(f"/studies/{uid}", headers={"Accept": syntax})
    assert refused.status_code == 406
    assert "transfer-syntax=1.2.840.10008.1.2.1" in refused.json()["detail"]


def test_who_is_shown_what_is_written_down_and_nobody_is_named(
    service: Running, raw: httpx.Client, sent: bytes
) -> None:
    uid = read(sent).StudyInstanceUID
    raw.get("/studies", params={"PatientName": "żółć*"})
    raw.get(f"/studies/{uid}")
    with service.room.database.read() as session:
        rows = [row for row in entries(session) if row.act.startswith("dicom.")]
    assert [row.act for row in rows[-2:]] == ["dicom.found", "dicom.fetched"]
    assert rows[-1].subject
    assert all(word not in row.body for row in rows for word in ("żółć", "Żółć", "A-17", "SYN1"))
    viewer = httpx.get(f"{service.url}/dicom-web/studies", headers=let_in(service, "viewer"))
    assert (viewer.status_code, "dicom:read" in viewer.json()["detail"]) == (403, True)


def test_a_reader_who_is_to_label_a_film_fetches_it_without_its_results(service: Running, web: DICOMwebClient) -> None:
    content = film(31, patient_name="Label^Synthetic", study_date="20261102")
    web.store_instances([read(content)])
    answered(service)
    with service.room.database.read() as session:
        free = len(unread(session).film_ids)
    service.room.label_batches.draw(free, second=0, actor="mel")
    service.room.access.add_user("lin", ("reviewer",), password=None, actor="test")
    headers = {"Authorization": f"Bearer {service.room.access.add_key('lin', actor='test')[1]}"}
    mine = DICOMwebClient(f"{service.url}/dicom-web", headers=headers, timeout=60)
    uid = read(content).StudyInstanceUID
    assert [one.SOPClassUID for one in mine.retrieve_study(uid)] == [read(content).SOPClassUID]
    results = [one for one in web.search_for_instances(uid) if one["00080016"]["Value"][0] == REPORT]
    refused = httpx.get(results[0]["00081190"]["Value"][0], headers={**headers, "Accept": "application/dicom"})
    assert (refused.status_code, "drawn for labelling" in refused.json()["detail"]) == (403, True)
    (film_id,) = {one.film_id for one in service.room.dicomweb.index.objects([uid])[uid]}
    service.room.labelling.put(film_id, "lin", finding="normal")
    assert {one.SOPClassUID for one in mine.retrieve_study(uid)} == {read(content).SOPClassUID, REPORT, CAPTURE}
    while (other := service.room.labelling.following("lin")) is not None:  # those of other tests were drawn as well
        service.room.labelling.put(other, "lin", finding="normal")
    mine._session.close()


def test_a_film_that_was_passed_over_is_listed_when_the_service_starts_again(
    service: Running, web: DICOMwebClient, sent: bytes
) -> None:
    study, parts = read(sent).StudyInstanceUID, service.room.dicomweb
    listed = web.search_for_instances(study)
    film_ids = {one.film_id for one in parts.index.objects([study])[study]}
    parts.index.put([], gone=tuple(film_ids))  # as after a header that could not be read
    assert web.search_for_instances(study) == []
    assert parts.indexer.again() == 1
    assert web.search_for_instances(study) == listed
    assert parts.indexer.again() == 0


def test_what_is_erased_is_listed_no_more_and_its_name_does_not_come_back(
    web: DICOMwebClient, service: Running, sent: bytes
) -> None:
    content, other = film(3), film(4)
    web.store_instances([read(content), read(other)])
    answered(service)
    index, indexer = service.room.dicomweb.index, service.room.dicomweb.indexer
    uids = [read(one).StudyInstanceUID for one in (content, other)]
    named, drawn = (index.objects([uid])[uid][0].film_id for uid in uids)
    erasure = Eraser(service.room.database, now)
    erasure.erase_identifiers([named], actor="test")
    service.room.reviews.put(named, "ada", decision="agree", finding=None, comment="", over=0)
    erasure.erase_pixels([drawn], actor="test")
    while indexer.step():
        pass
    assert index.objects(uids) == {uid: [] for uid in uids}
    assert web.search_for_studies(search_filters={"PatientID": "SYN3"}) == []
