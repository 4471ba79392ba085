"""Urgent films first, senders in turn, and nobody waits for ever."""

from collections import deque

from hypothesis import given, settings
from hypothesis import strategies as st

from hilum.records.turns import REMEMBERED, Head, Turns

CAP = 10.0
Queues = dict[tuple[str, bool], deque[float]]


def take(turns: Turns, queues: Queues, now: float) -> tuple[tuple[str, bool], float]:
    """The next of several queues of times of arrival, and when it came."""
    keys = [key for key, waiting in queues.items() if waiting]
    heads = [Head(sender=key[0], urgent=key[1], waited_s=now - queues[key][0]) for key in keys]
    key = keys[turns.choose(heads)]
    return key, queues[key].popleft()


def test_a_flood_does_not_starve_the_others() -> None:
    queues: Queues = {("flood", False): deque([0.0] * 100), ("one", False): deque([1.0]), ("two", False): deque([2.0])}
    turns = Turns(CAP)
    order = [take(turns, queues, 3.0)[0][0] for _ in range(6)]
    assert order == ["flood", "one", "two", "flood", "flood", "flood"]


def test_urgent_goes_first_and_an_overdue_one_takes_turns_with_it() -> None:
    queues: Queues = {("ward", False): deque([0.0, 0.0]), ("er", True): deque([5.0] * 6)}
    turns = Turns(CAP)
    early = [take(turns, queues, 6.0)[0][0] for _ in range(2)]
    late = [take(turns, queues, 11.0)[0][0] for _ in range(4)]
    assert early == ["er", "er"]
    assert late == ["er", "ward", "er", "ward"]


def test_a_senders_urgent_films_do_not_hold_its_routine_ones_up() -> None:
    queues: Queues = {("a", True): deque([0.0]), ("a", False): deque([0.0]), ("b", False): deque([1.0, 1.0])}
    turns = Turns(CAP)
    assert [take(turns, queues, 2.0)[0] for _ in range(3)] == [("a", True), ("a", False), ("b", False)]


arrivals = st.lists(st.tuples(st.sampled_from("abcd"), st.booleans(), st.floats(0, 30)), min_size=1, max_size=60)


@settings(max_examples=200, deadline=None)
@given(arrivals)
def test_bounds_hold_for_any_arrivals(events: list[tuple[str, bool, float]]) -> None:
    """One turn a second; what a sender waits, in turns, has a bound that the others' floods don't move."""
    turns, queues, left = Turns(CAP), Queues(), deque(sorted(events, key=lambda event: event[2]))
    now, count, urgent_since, passed = 0.0, 0, 0, dict[tuple[str, bool], int]()
    while left or any(queues.values()):
        while left and left[0][2] <= now:
            sender, urgent, came = left.popleft()
            queues.setdefault((sender, urgent), deque()).append(came)
        if any(queues.values()):
            waiting = {key for key, queue in queues.items() if queue}
            overdue = {key for key in waiting if not key[1] and now - queues[key][0] > CAP}
            urgent_waits = any(urgent for _, urgent in waiting)
            key, came = take(turns, queues, now)
            assert came <= min([came, *queues[key]]), "one sender's films of one rank go in their order"
            assert not urgent_waits or key[1] or key in overdue, "urgent goes before routine"
            urgent_since = urgent_since + 1 if key[1] and overdue else 0
            assert urgent_since <= 1, "an overdue one has every second turn at least"
            rank = {one for one in waiting if one[1] == key[1] and (key[1] or (one in overdue) == (key in overdue))}
            passed = {one: passed.get(one, 0) + (one in rank and one[0] != key[0]) for one in waiting if one != key}
            assert max(passed.values(), default=0) <= 3, "each other sender goes before once at most"
            count += 1
        now += 1.0
    assert count == len(events), "every one has its turn, once"


def test_senders_of_long_ago_are_forgotten() -> None:
    turns = Turns()
    for number in range(REMEMBERED + 10):
        turns.choose([Head(sender=str(number), urgent=False, waited_s=0)])
    assert len(turns._last) == REMEMBERED
    assert turns.choose([Head(sender="5", urgent=False, waited_s=0), Head(sender="100", urgent=False, waited_s=9)]) == 0
