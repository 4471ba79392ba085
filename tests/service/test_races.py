"""Films sent many times at once through all doors: one film, one answer each, and everybody is told the same id."""

import random
import time
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from sqlalchemy import text
from tests.service.conftest import let_in, settings_in
from tests.service.small import SmallDrawing, SmallModel, dataset, dicom
from tests.service.test_dicom import associated, port_of

from hilum.service.app import Running, running

REST_SENDERS, DICOM_SENDERS, WEB_SENDERS, FIRST = 4, 2, 2, 7000


def send_by_rest(service: Running, headers: dict[str, str], numbers: list[int]) -> list[tuple[int, str, bool]]:
    """Number, id told, and whether it was new."""
    told = []
    with httpx.Client(base_url=service.url, timeout=90, headers=headers) as http:
        for number in numbers:
            reply = http.post(
                "/api/v1/studies", content=dicom(number, 100), headers={"Content-Type": "application/dicom"}
            )
            assert reply.status_code in (200, 201), reply.text
            told.append((number, reply.json()["id"], reply.status_code == 201))
    return told


def send_by_dicom(service: Running, numbers: list[int]) -> list[tuple[int, str, bool]]:
    """C-STORE tells no id; that it was accepted is all."""
    with associated(port_of(service)) as association:
        for number in numbers:
            assert association.send_c_store(dataset(number, 100)).Status == 0x0000
    return []


def send_by_web(service: Running, headers: dict[str, str], numbers: list[int]) -> list[tuple[int, str, bool]]:
    """STOW-RS, three films a request; it tells no id either, but which films it has."""
    kind = {"Content-Type": 'multipart/related; type="application/dicom"; boundary=b1', "Accept": "application/json"}
    with httpx.Client(base_url=service.url, timeout=90, headers=headers | kind) as http:
        for at in range(0, len(numbers), 3):
            films = [dicom(number, 100) for number in numbers[at : at + 3]]
            body = b"".join(b"--b1\r\n\r\n" + film + b"\r\n" for film in films) + b"--b1--\r\n"
            reply = http.post("/dicom-web/studies", content=body)
            assert reply.status_code == 200, reply.text
            assert len(reply.json()["00081199"]["Value"]) == len(films)
    return []


def race(folder: Path, films: int, sends: int, seed: int) -> None:
    """Send films at random, together so often, and look at what was kept and told."""
    chance = random.Random(seed)
    order = [FIRST + chance.randrange(films) for _ in range(sends - films)] + [FIRST + i for i in range(films)]
    doors = REST_SENDERS + DICOM_SENDERS + WEB_SENDERS
    shares = [order[i::doors] for i in range(doors)]
    settings = settings_in(folder, dicom_port=0)
    with running(settings, answering=SmallModel(), drawing=SmallDrawing()) as service:
        headers = let_in(service)
        with ThreadPoolExecutor(len(shares)) as pool:
            rest = [pool.submit(send_by_rest, service, headers, share) for share in shares[:REST_SENDERS]]
            other = [pool.submit(send_by_dicom, service, share) for share in shares[REST_SENDERS:-WEB_SENDERS]]
            other += [pool.submit(send_by_web, service, headers, share) for share in shares[-WEB_SENDERS:]]
            told = [line for done in (*rest, *other) for line in done.result()]
        deadline = time.monotonic() + 120
        while set(service.room.store.counts()) != {"answered"}:
            assert time.monotonic() < deadline, service.room.store.counts()
            time.sleep(0.05)
        with service.room.database.read() as session:
            uids = session.execute(text("SELECT sop_instance_uid, id FROM films")).fetchall()
            answers = session.execute(text("SELECT count(*), count(DISTINCT film_id) FROM answers")).one()
    assert len(uids) == len({uid for uid, _ in uids}) == films
    assert tuple(answers) == (films, films)
    ids, new = defaultdict(set), defaultdict(int)
    for number, film_id, was_new in told:
        ids[number].add(film_id)
        new[number] += was_new
    assert all(len(same) == 1 for same in ids.values()), "one film has one id, whoever asks"
    assert all(count <= 1 for count in new.values()), "a film is new once"


def test_films_sent_at_once_through_all_doors_are_answered_once(tmp_path: Path) -> None:
    race(tmp_path, films=4, sends=24, seed=1)


@pytest.mark.system
def test_a_thousand_sends(tmp_path: Path) -> None:
    race(tmp_path, films=50, sends=1_000, seed=2)


@pytest.mark.long
@pytest.mark.timeout(7200)
def test_fifty_thousand_sends(tmp_path: Path, counted: Callable[[int], int]) -> None:
    race(tmp_path, films=counted(2_000), sends=counted(50_000), seed=3)
