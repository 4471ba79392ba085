"""The description of the interface, fuzzed: every operation, no 5xx, every error a problem document."""

from collections.abc import Callable

import httpx
import pytest
from tests.service.conftest import let_in
from tests.service.fuzz import fuzz
from tests.service.small import dicom

from hilum.records.roles import ROLES
from hilum.service.app import Running


@pytest.fixture(scope="module")
def known(service: Running) -> dict[str, str]:
    """A film that is there, and its place in DICOMweb."""
    headers = let_in(service) | {"Content-Type": "application/dicom"}
    film = dicom(8900, SeriesInstanceUID="1.2.3")
    sent = httpx.post(f"{service.url}/api/v1/studies?wait=60", content=film, headers=headers, timeout=60)
    film_id = sent.json()["id"]
    one = service.room.dicomweb.indexer.now(film_id).film
    assert one is not None
    return {
        "film_id": film_id,
        "finding": "normal",
        "study": one.study_instance_uid,
        "series": one.series_instance_uid,
        "sop": one.sop_instance_uid,
        "numbers": "1",
        "tag": "7FE00010",
        "name": "nobody",
    }


@pytest.mark.system
def test_a_few_requests_to_every_operation(service: Running, known: dict[str, str]) -> None:
    statuses = fuzz(service, let_in(service, *ROLES), known, examples=5, seed_=1)
    assert sum(statuses.values()) > 50
    assert statuses[422] > 0


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("number", range(4))
def test_many_requests_to_every_operation(
    service: Running, known: dict[str, str], number: int, counted: Callable[[int], int]
) -> None:
    examples = counted(200)
    statuses = fuzz(service, let_in(service, *ROLES), known, examples=examples, seed_=number)
    print(dict(statuses))
    assert sum(statuses.values()) > 20 * examples
