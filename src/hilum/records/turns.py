"""Whose turn is it: urgent films first, senders in turn, and nobody waits for ever.

The same rules order the films in the records (which one is leased next) and the items before the model (which ones make
the next batch). They are a small state and a choice, without clock, lock or database.

* Urgent before routine.
* A routine film that has waited longer than the ageing cap is overdue; while urgent and overdue ones wait together they
  take turns, so a flood of urgent films can at most halve what the others get.
* Among films of one rank the sender goes first whose last turn with such films lies furthest back: its urgent ones
  don't hold its routine ones up. So a sender who waits is served after at most one turn of each other sender, however
  much they sent.
* One sender's films of one rank go in the order in which they came.
"""

from collections.abc import Sequence
from dataclasses import dataclass

AGEING_CAP_S = 120.0
"""A routine film that has waited for so long is overdue."""

REMEMBERED = 4096
"""Senders whose last turn is remembered."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """The first in one queue: one sender's films of one rank."""

    sender: str
    """Who sent it."""
    urgent: bool
    """Whether it is to be read at once."""
    waited_s: float
    """How long it has waited."""


class Turns:
    """Remembers who had the last turns.

    Args:
        ageing_cap_s: a routine film that has waited longer is overdue.
    """

    def __init__(self, ageing_cap_s: float = AGEING_CAP_S) -> None:
        self._cap = ageing_cap_s
        self._turn, self._last = 0, dict[tuple[str, bool], int]()
        self._overdue_next = False

    def choose(self, heads: Sequence[Head]) -> int:
        """Give somebody the turn.

        Args:
            heads: the first of each queue that is not empty; at least one.

        Returns:
            the index of the one that is next.
        """
        urgent = [i for i, head in enumerate(heads) if head.urgent]
        overdue = [i for i, head in enumerate(heads) if not head.urgent and head.waited_s > self._cap]
        if urgent and overdue:
            rank, self._overdue_next = (overdue if self._overdue_next else urgent), not self._overdue_next
        else:
            rank = urgent or overdue or list(range(len(heads)))
        chosen = min(rank, key=lambda i: (self._last.get(_who(heads[i]), 0), -heads[i].waited_s, heads[i].sender))
        self._note(_who(heads[chosen]))
        return chosen

    def had(self, sender: str, urgent: bool) -> None:
        """Remember a turn that somebody had while nobody else waited."""
        self._note((sender, urgent))

    def _note(self, sender: tuple[str, bool]) -> None:
        self._turn += 1
        self._last.pop(sender, None)  # back to the end, so that the first is the one whose turn lies furthest back
        self._last[sender] = self._turn
        if len(self._last) > REMEMBERED:
            del self._last[next(iter(self._last))]


def _who(head: Head) -> tuple[str, bool]:
    return head.sender, head.urgent
