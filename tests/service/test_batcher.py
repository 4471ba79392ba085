"""The batcher drains what is queued, and one bad item never touches its neighbours."""

import threading
from collections.abc import Callable, Sequence

import pytest

from hilum.errors import ServiceError
from hilum.service.batcher import Batcher


class Gate:
    """Doubles numbers, but only once it is open, so that a queue can gather before."""

    def __init__(self, check: Callable[[Sequence[int]], None] = lambda _: None) -> None:
        self.open, self.begun, self.batches, self.check = threading.Event(), threading.Event(), [], check

    def __call__(self, items: Sequence[int]) -> list[int]:
        self.batches.append(list(items))
        self.begun.set()
        assert self.open.wait(10)
        self.check(items)
        return [2 * item for item in items]


def refuse_seven(items: Sequence[int]) -> None:
    if 7 in items:
        raise ValueError("seven")


def test_a_lone_item_is_answered_at_once() -> None:
    gate = Gate()
    gate.open.set()
    batcher = Batcher(gate)
    assert batcher.submit(3).result(5) == 6
    batcher.close()


def test_what_gathers_while_a_batch_is_in_work_becomes_the_next() -> None:
    gate = Gate()
    batcher = Batcher(gate, largest=4)
    first = batcher.submit(0)
    gate.begun.wait(5)
    rest = [batcher.submit(i) for i in range(1, 8)]
    gate.open.set()
    assert [future.result(5) for future in (first, *rest)] == [2 * i for i in range(8)]
    assert gate.batches == [[0], [1, 2, 3, 4], [5, 6, 7]]
    batcher.close()


def test_one_bad_item_fails_alone() -> None:
    gate = Gate(refuse_seven)
    batcher = Batcher(gate)
    first = batcher.submit(0)
    gate.begun.wait(5)
    futures = [batcher.submit(i) for i in (6, 7, 8)]
    gate.open.set()
    assert first.result(5) == 0
    assert (futures[0].result(5), futures[2].result(5)) == (12, 16)
    with pytest.raises(ValueError, match="seven"):
        futures[1].result(5)
    batcher.close()


def test_an_item_that_is_cancelled_while_it_waits_is_left_out() -> None:
    gate = Gate()
    batcher = Batcher(gate)
    batcher.submit(0)
    gate.begun.wait(5)
    cancelled, kept = batcher.submit(1), batcher.submit(2)
    assert cancelled.cancel()
    gate.open.set()
    assert kept.result(5) == 4
    assert gate.batches == [[0], [2]]
    batcher.close()


def test_too_few_answers_fail_instead_of_going_to_the_wrong_film() -> None:
    batcher: Batcher[int, int] = Batcher(lambda items: [])
    with pytest.raises(ServiceError, match="0 answers for 1 films"):
        batcher.submit(1).result(5)
    batcher.close()


def test_beyond_the_bound_it_refuses() -> None:
    gate = Gate()
    batcher = Batcher(gate, waiting=2)
    batcher.submit(0)
    gate.begun.wait(5)
    waiting = [batcher.submit(i) for i in (1, 2)]
    with pytest.raises(ServiceError, match="2 films wait for the model already"):
        batcher.submit(3)
    gate.open.set()
    assert [future.result(5) for future in waiting] == [2, 4]
    batcher.close()


def test_closing_answers_what_waits_and_takes_no_more() -> None:
    gate = Gate()
    batcher = Batcher(gate)
    futures = [batcher.submit(i) for i in range(5)]
    gate.open.set()
    batcher.close()
    assert [future.result(0) for future in futures] == [0, 2, 4, 6, 8]
    with pytest.raises(ServiceError, match="closed"):
        batcher.submit(1)
    batcher.close()
