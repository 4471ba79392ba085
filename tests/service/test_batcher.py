"""The batcher drains what is queued, and one bad item never touches its neighbours."""

import threading
import time
from collections.abc import Callable, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hilum.errors import ServiceError
from hilum.service.batcher import Batcher


class Gate:
    """Doubles numbers, but only once it is open, so that a queue can gather before."""

    def __init__(self, check: Callable[[Sequence[int]], None] = lambda _: None) -> None:
        self.open, self.begun, self.batches, self.check = threading.Event(), threading.Event(), [], check

    def __call__(self, items: Sequence[int]) -> list[int]:
        self.batches.append(list(items))
        self.begun.set()
        assert self.open.wait(60)
        self.check(items)
        return [2 * item for item in items]


def refuse_seven(items: Sequence[int]) -> None:
    if 7 in items:
        raise ValueError("seven")


def test_a_lone_item_is_answered_at_once() -> None:
    gate = Gate()
    gate.open.set()
    batcher = Batcher(gate)
    assert batcher.submit(3).result(60) == 6
    batcher.close()


def test_what_gathers_while_a_batch_is_in_work_becomes_the_next() -> None:
    gate = Gate()
    batcher = Batcher(gate, largest=4)
    first = batcher.submit(0)
    assert gate.begun.wait(60)
    assert batcher.waiting == 0
    rest = [batcher.submit(i) for i in range(1, 8)]
    assert batcher.waiting == 7
    gate.open.set()
    assert [future.result(60) for future in (first, *rest)] == [2 * i for i in range(8)]
    assert gate.batches == [[0], [1, 2, 3, 4], [5, 6, 7]]
    batcher.close()


def test_one_bad_item_fails_alone() -> None:
    gate = Gate(refuse_seven)
    batcher = Batcher(gate)
    first = batcher.submit(0)
    assert gate.begun.wait(60)
    futures = [batcher.submit(i) for i in (6, 7, 8)]
    gate.open.set()
    assert first.result(60) == 0
    assert (futures[0].result(60), futures[2].result(60)) == (12, 16)
    with pytest.raises(ValueError, match="seven"):
        futures[1].result(60)
    batcher.close()


def test_an_item_that_is_cancelled_while_it_waits_is_left_out() -> None:
    gate = Gate()
    batcher = Batcher(gate)
    batcher.submit(0)
    assert gate.begun.wait(60)
    cancelled, kept = batcher.submit(1), batcher.submit(2)
    assert cancelled.cancel()
    gate.open.set()
    assert kept.result(60) == 4
    assert gate.batches == [[0], [2]]
    batcher.close()


def test_too_few_answers_fail_instead_of_going_to_the_wrong_film() -> None:
    batcher: Batcher[int, int] = Batcher(lambda items: [])
    with pytest.raises(ServiceError, match="0 answers for 1 films"):
        batcher.submit(1).result(60)
    batcher.close()


def test_beyond_the_bound_it_refuses() -> None:
    gate = Gate()
    batcher = Batcher(gate, waiting=2)
    batcher.submit(0)
    assert gate.begun.wait(60)
    waiting = [batcher.submit(i) for i in (1, 2)]
    with pytest.raises(ServiceError, match="2 films wait for the model already"):
        batcher.submit(3)
    gate.open.set()
    assert [future.result(60) for future in waiting] == [2, 4]
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


def gathered(gate: Gate, **options: object) -> Batcher[int, int]:
    """A batcher whose model is busy with a first item, so that others gather."""
    batcher = Batcher(gate, **options)  # type: ignore[arg-type]
    batcher.submit(0)
    assert gate.begun.wait(60)
    return batcher


def test_senders_take_turns_and_urgent_ones_go_first() -> None:
    gate = Gate()
    batcher = gathered(gate, largest=4)
    for item in (10, 11, 12, 13):
        batcher.submit(item, sender="flood")
    batcher.submit(20, sender="other")
    batcher.submit(30, sender="er", urgent=True)
    gate.open.set()
    batcher.close()
    assert gate.batches == [[0], [30, 10, 20, 11], [12, 13]]


@pytest.mark.parametrize(("waited_s", "second"), [(119, 40), (121, 10)])
def test_a_routine_item_past_the_ageing_cap_takes_turns_with_urgent_ones(waited_s: float, second: int) -> None:
    gate, at = Gate(), [0.0]
    batcher = gathered(gate, largest=1, ageing_cap_s=120, clock=lambda: at[0])
    batcher.submit(10, sender="ward")
    at[0] = waited_s
    for item in (30, 40):
        batcher.submit(item, sender=f"er{item}", urgent=True)
    gate.open.set()
    batcher.close()
    assert gate.batches[:3] == [[0], [30], [second]]


def test_what_waited_too_long_is_not_begun() -> None:
    gate = Gate()
    batcher = gathered(gate)
    late, kept = batcher.submit(1, within_s=0), batcher.submit(2, within_s=60)
    gate.open.set()
    with pytest.raises(ServiceError, match="waited too long for the model"):
        late.result(60)
    assert kept.result(60) == 4
    assert gate.batches == [[0], [2]]
    batcher.close()


def test_the_nearest_deadline_goes_first_among_one_senders() -> None:
    gate = Gate()
    batcher = gathered(gate, largest=1)
    for item, within_s in ((1, None), (2, 60), (3, 30)):
        batcher.submit(item, within_s=within_s)
    gate.open.set()
    batcher.close()
    assert gate.batches == [[0], [3], [2], [1]]


def test_a_suspect_is_kept_out_of_batches() -> None:
    gate = Gate()
    batcher = gathered(gate)
    for item in (1, 2):
        batcher.submit(item)
    batcher.submit(3, alone=True)
    for item in (4, 5):
        batcher.submit(item)
    gate.open.set()
    batcher.close()
    assert gate.batches == [[0], [1, 2], [3], [4, 5]]


def test_a_batch_that_deserves_it_is_tried_again_before_it_is_cut() -> None:
    died: list[list[int]] = []

    def work(items: Sequence[int]) -> list[int]:
        died.append(list(items))
        if len(died) == 1:
            raise OSError("killed")
        return list(items)

    batcher = Batcher(work, again=lambda error: isinstance(error, OSError))
    assert batcher.submit(7).result(60) == 7
    assert died == [[7], [7]]
    batcher.close()


def test_a_poison_is_found_by_halves() -> None:
    gate = Gate(refuse_seven)
    batcher = gathered(gate)
    futures = [batcher.submit(item) for item in range(1, 9)]
    gate.open.set()
    batcher.close()
    assert [future.exception() is None for future in futures] == [item != 7 for item in range(1, 9)]
    assert gate.batches[1:] == [[1, 2, 3, 4, 5, 6, 7, 8], [1, 2, 3, 4], [5, 6, 7, 8], [5, 6], [7, 8], [7], [8]]


def test_two_lines_take_a_batch_each_and_the_third_waits() -> None:
    batches: list[list[int]] = []
    begun, opened = threading.Semaphore(0), threading.Event()

    def work(items: Sequence[int]) -> list[int]:
        batches.append(list(items))
        begun.release()
        assert opened.wait(60)
        return list(items)

    batcher = Batcher(work, lines=2, largest=2)
    futures = [batcher.submit(0)]
    assert begun.acquire(timeout=60)
    futures.append(batcher.submit(1))
    assert begun.acquire(timeout=60)
    futures += [batcher.submit(i) for i in (2, 3, 4)]
    assert not begun.acquire(timeout=0.2)
    opened.set()
    assert [future.result(60) for future in futures] == [0, 1, 2, 3, 4]
    batcher.close()
    assert batches[:2] == [[0], [1]]
    assert sorted(batches[2:]) == [[2, 3], [4]]


class Mortal:
    """A model that all batches in it share: what kills it fails them all, and none of them knows which film it was."""

    def __init__(self, poison: set[int]) -> None:
        self.poison, self.lock, self.answered = poison, threading.Lock(), list[int]()
        self.inside, self.killed, self.most = dict[int, Sequence[int]](), set[int](), 0
        self.companions: dict[int, set[int]] = {}

    def __call__(self, items: Sequence[int]) -> list[int]:
        me = threading.get_ident()
        with self.lock:
            self.inside[me] = items
            self.most = max(self.most, len(self.inside))
            together = {item for batch in self.inside.values() for item in batch}
            for item in together:
                self.companions.setdefault(item, set()).update(together)
        time.sleep(0.0005)
        with self.lock:
            if self.poison & set(items):
                self.killed |= set(self.inside)
            died = me in self.killed
            self.killed.discard(me)
            del self.inside[me]
            if died:
                raise OSError("killed")
            self.answered.extend(items)
        return [3 * item for item in items]


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.booleans(), min_size=1, max_size=30),
    st.sets(st.integers(0, 29), max_size=4),
    st.integers(1, 5),
    st.integers(1, 3),
)
def test_what_kills_the_model_harms_no_other_item_and_a_suspect_has_no_company(
    suspects: list[bool], poison: set[int], largest: int, lines: int
) -> None:
    model = Mortal(poison)
    batcher = Batcher(model, lines=lines, largest=largest, again=lambda error: isinstance(error, OSError))
    futures = [batcher.submit(number, alone=suspect) for number, suspect in enumerate(suspects)]
    batcher.close()
    for number, future in enumerate(futures):
        assert (future.exception(0) is not None) == (number in poison), number
    assert sorted(model.answered) == sorted(set(range(len(suspects))) - poison)
    assert model.most <= lines
    assert all(model.companions[number] == {number} for number, suspect in enumerate(suspects) if suspect)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.booleans(), st.booleans()), min_size=1, max_size=40),
    st.sets(st.integers(0, 39), max_size=5),
    st.sets(st.integers(0, 39), max_size=5),
    st.integers(1, 9),
    st.integers(1, 3),
)
def test_nothing_is_lost_and_nothing_done_twice(
    items: list[tuple[str, bool, bool]], poison: set[int], cancelled: set[int], largest: int, lines: int
) -> None:
    answered: list[int] = []

    def work(batch: Sequence[int]) -> list[int]:
        assert len(batch) <= largest
        if poison & set(batch):
            raise ValueError("poison")
        answered.extend(batch)
        return [3 * item for item in batch]

    batcher = Batcher(work, lines=lines, largest=largest)
    futures = [
        batcher.submit(number, sender=sender, urgent=urgent, alone=alone)
        for number, (sender, urgent, alone) in enumerate(items)
    ]
    gone = {number for number in cancelled if number < len(futures) and futures[number].cancel()}
    batcher.close()
    for number, future in enumerate(futures):
        if number in gone:
            assert future.cancelled()
        elif number in poison:
            assert isinstance(future.exception(0), ValueError)
        else:
            assert future.result(0) == 3 * number
    assert sorted(answered) == sorted(set(range(len(items))) - gone - poison)
