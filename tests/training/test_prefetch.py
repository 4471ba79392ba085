"""Reading ahead changes when a batch is read, and nothing else."""

import threading

import pytest
import torch

from hilum.training.prefetch import Ahead, announce

BATCHES = [torch.tensor([i, i + 1]) for i in range(6)]


class Reader:
    """Says in which thread it read what."""

    def __init__(self) -> None:
        self.read: list[tuple[int, int, bool]] = []
        self.done = threading.Semaphore(0)

    def __call__(self, rows: torch.Tensor, view: int) -> torch.Tensor:
        self.read.append((int(rows[0]), view, threading.current_thread() is threading.main_thread()))
        self.done.release()
        if int(rows[0]) == 4:
            raise ValueError("row 4 is bad")
        return rows * 10 + view


def test_announced_batches_come_from_another_thread_two_ahead() -> None:
    reader = Reader()
    ahead = Ahead(reader)
    announce(ahead, BATCHES[:4], 1)
    for _ in range(2):
        assert reader.done.acquire(timeout=120)
    assert reader.read == [(0, 1, False), (1, 1, False)]
    found = [ahead(rows, 1) for rows in BATCHES[:4]]
    assert torch.equal(torch.stack(found), torch.stack(BATCHES[:4]) * 10 + 1)
    assert reader.read == [(i, 1, False) for i in range(4)]
    ahead.close()


def test_what_was_not_announced_is_read_on_the_spot() -> None:
    reader = Reader()
    ahead = Ahead(reader)
    ahead.expect(BATCHES[:2], 0)
    assert torch.equal(ahead(BATCHES[3], 0), BATCHES[3] * 10)
    assert (3, 0, True) in reader.read
    assert torch.equal(ahead(BATCHES[0], 0), BATCHES[0] * 10)
    ahead.close()


def test_a_new_announcement_gives_up_the_old_one() -> None:
    reader = Reader()
    ahead = Ahead(reader)
    ahead.expect(BATCHES, 0)
    ahead.expect(BATCHES[2:3], 5)
    assert torch.equal(ahead(BATCHES[2], 5), BATCHES[2] * 10 + 5)
    ahead.close()
    assert (4, 0, False) not in reader.read


def test_an_error_is_raised_where_the_batch_is_asked_for() -> None:
    ahead = Ahead(Reader())
    ahead.expect(BATCHES[3:6], 0)
    assert torch.equal(ahead(BATCHES[3], 0), BATCHES[3] * 10)
    with pytest.raises(ValueError, match="row 4 is bad"):
        ahead(BATCHES[4], 0)
    ahead.close()


def test_inputs_that_need_not_know_are_left_alone() -> None:
    announce(Reader(), BATCHES, 0)
