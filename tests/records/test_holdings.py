"""What is kept and what waits, in numbers."""

from datetime import timedelta
from pathlib import Path

from tests.records.test_results_out import START, Clock, answered

from hilum.records.database import Database
from hilum.records.erasure import Eraser
from hilum.records.holdings import Holdings, holdings, sent_again
from hilum.records.results_out import Outbox


def test_films_bytes_and_what_waits_with_its_reason(tmp_path: Path) -> None:
    database, clock = Database(f"sqlite:///{tmp_path / 'hilum.db'}"), Clock()
    assert holdings(database) == Holdings(films=0, size=0, oldest=None)
    outbox = Outbox(database, clock)
    outbox.register(["pacs"])
    answered(database, clock, 1)
    clock.wait(5)
    answered(database, clock, 2)
    assert holdings(database) == Holdings(films=2, size=2, oldest=START)
    assert sent_again(database, limit=9) == (), "what was never tried has no reason yet"
    delivery = outbox.claim("pacs", "me", lease_s=10)
    assert delivery is not None
    outbox.failed(delivery.id, "me", code="away", reason="PACS is away.", retry_after_s=60)
    (again,) = sent_again(database, limit=9)
    assert (again.destination, again.film_id, again.attempts, again.reason) == ("pacs", "film1", 1, "PACS is away.")
    assert again.due_at == clock() + timedelta(seconds=60)
    assert sent_again(database, limit=0) == ()
    Eraser(database, clock).erase_pixels(["film1"], actor="test")
    assert holdings(database) == Holdings(films=1, size=1, oldest=START + timedelta(seconds=5), erased=1)
    database.close()
