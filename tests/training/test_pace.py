"""What a training says while it runs, on positions whose numbers are known."""

import pytest

from hilum.training.pace import batch_note, clock, epoch_note, seconds_left
from hilum.training.position import Position, Tally


class Given:
    """A loop's parts that are spoken of: 80 films in 4 epochs."""

    fit = range(80)

    class stage:
        epochs = 4


def row(seconds: float, **changes: object) -> dict[str, object]:
    values = {"loss": 0.5, "watch_loss": 0.25, "watch_accuracy": 0.75, "data_s": 1.0, "fit_s": 4.0}
    return {**values, "seconds": seconds, "films_per_s": 80 / seconds, **changes}


def test_a_batch_is_told_with_loss_speed_waiting_and_time() -> None:
    """40 of 80 films in 5 s, 1 s of it waiting; the epoch before took 10 s: 30 s for three epochs, 5 are gone."""
    at = Position(epoch=1, batch=5, fitted=Tally(20.0, 40.0, 30, 40), seconds=5.0, data_s=1.0, rows=[row(10.0)])
    told = batch_note(Given, at, 10)
    assert told == "epoch 2/4 · batch 5/10 · loss 0.500, right 75% · 8 films/s · data 20% · 0:25 left at most"


def test_before_the_first_batch_nothing_is_claimed() -> None:
    assert batch_note(Given, Position(), 10) == "epoch 1/4 · batch 0/10"


def test_an_epoch_is_told_with_and_without_watched_films() -> None:
    assert epoch_note(row(4.0)) == "loss 0.500 · watched 0.250, right 75% · 20 films/s · data 25%"
    assert epoch_note(row(4.0, watch_loss=None, loss=None)).startswith("no film with a known label · 20 films/s")


def test_time_left_is_taken_from_the_epoch_under_way_when_there_is_no_other() -> None:
    assert seconds_left(3, Position(batch=2, seconds=4.0), 4) == pytest.approx(3 * 8 - 4)
    assert seconds_left(1, Position(seconds=50.0, rows=[row(10.0)]), 4) == 0


@pytest.mark.parametrize(("seconds", "told"), [(4.6, "0:05"), (200, "3:20"), (7400, "2:03:20"), (3599.7, "1:00:00")])
def test_a_clock(seconds: float, told: str) -> None:
    assert clock(seconds) == told
