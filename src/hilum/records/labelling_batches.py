"""Drawing films for the labelling queue: batches with known probabilities, which are kept.

What is drawn how is :mod:`hilum.evaluation.selection`'s; what becomes of it, :mod:`hilum.records.labelling`'s.
"""

import json
import math
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

import numpy as np
from sqlalchemy import func, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from hilum.errors import UsageError
from hilum.evaluation import selection
from hilum.randomness import stream
from hilum.records import creations
from hilum.records.audit import Act, append
from hilum.records.cursors import behind
from hilum.records.database import Database
from hilum.records.labelling_schema import LabelBatchRow, LabelTaskRow
from hilum.records.reviews import Conflict
from hilum.records.store import now
from hilum.records.unread import Unread, unread


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """One draw."""

    id: str
    """Opaque id."""
    drawn_at: datetime
    """When (UTC)."""
    drawn_by: str
    """Who."""
    films: int
    """Films drawn."""
    pool: int
    """Films that it chose from."""
    twice: int
    """Films that two readers label."""
    states: Mapping[str, int] = field(default_factory=dict)
    """Films by how far they are; a film that was erased is in none."""


class LabelBatches:
    """The draws, each one transaction.

    Args:
        database: where they are kept.
        clock: gives the instant; tests give their own.
    """

    def __init__(self, database: Database, clock: Callable[[], datetime] = now) -> None:
        self._database, self._clock = database, clock

    def draw(
        self,
        count: int,
        *,
        second: float,
        actor: str,
        seed: int | None = None,
        request: creations.Request | None = None,
    ) -> Batch:
        """Draw a batch from the films that nobody has read.

        Args:
            count: how many.
            second: share of them that a second reader labels, too; 0 … 1.
            actor: who draws.
            seed: of the draw; None for one by chance, which is kept.
            request: the request that asks for it, if it may come twice: then the first one's batch is returned.

        Raises:
            UsageError: more films than there are, a share that is none, or the request's key was used for another.
            DataError: there are none to choose from.
            Conflict: somebody drew at the same moment.
        """
        if not 0 <= second <= 1:
            raise UsageError(f"The share of second readers is {second}, but must lie in 0 … 1.")
        with self._database.write() as session:
            known = creations.made_before(session, request, self._clock())
            row = session.get(LabelBatchRow, known) if known else None
            if row is not None:
                return _batch(row, _states(session, row.id))
        with self._database.read() as session:
            films = unread(session)
        seed = secrets.randbelow(2**31) if seed is None else seed
        batch, tasks = _drawn(films, count, second, seed)
        batch.drawn_at, batch.drawn_by = self._clock(), actor
        try:
            with self._database.write() as session:
                session.add(batch)
                session.flush()
                session.add_all(tasks)
                creations.remember(session, request, batch.id, batch.drawn_at)
                detail = {"films": count, "pool": batch.pool, "twice": batch.twice, "seed": seed}
                append(
                    session, Act(actor=actor, act="labelling.drawn", subject=batch.id, detail=detail), batch.drawn_at
                )
        except IntegrityError:
            raise Conflict("Somebody drew films at the same moment. Look at the queue, then draw again.") from None
        return _batch(batch, {"waiting": count})

    def all(self, *, limit: int | None = None, cursor: str | None = None) -> tuple[Batch, ...]:
        """All draws, the newest first.

        Args:
            limit: most of them; None for all.
            cursor: only those behind it, as :func:`hilum.records.cursors.write_cursor` makes it of a draw.

        Raises:
            UsageError: the cursor is none of ours.
        """
        query = select(LabelBatchRow).order_by(LabelBatchRow.drawn_at.desc(), LabelBatchRow.id).limit(limit)
        if cursor is not None:
            query = query.where(behind(cursor, LabelBatchRow.drawn_at, LabelBatchRow.id))
        with self._database.read() as session:
            return tuple(_batch(row, _states(session, row.id)) for row in session.scalars(query).all())


def _drawn(films: Unread, count: int, second: float, seed: int) -> tuple[LabelBatchRow, list[LabelTaskRow]]:
    """A draw as rows. The order of the films, and which are read twice, are chance, and say nothing of why."""
    n, chance = len(films.film_ids), stream(seed, "labelling", len(films.film_ids))
    drawn = selection.select(
        count,
        chance,
        uncertain=selection.uncertainty(films.probs),
        diverse=selection.distance_to_labelled(films.features, films.labelled),
        disagreement=films.disagreement,
    )
    twice = math.ceil(second * count)
    readings = chance.permutation(np.repeat([2, 1], [twice, count - twice]))
    how = json.dumps({"seed": seed, "shares": selection.SHARES, "second": second}, sort_keys=True)
    batch = LabelBatchRow(id=secrets.token_hex(16), films=count, pool=n, twice=twice, how=how)
    tasks = [
        LabelTaskRow(
            film_id=films.film_ids[row],
            batch_id=batch.id,
            place=place,
            probability=float(drawn.probability[row]),
            readings=int(readings[place]),
            state="waiting",
        )
        for place, row in enumerate(chance.permutation(drawn.rows))
    ]
    return batch, tasks


def _states(session: Session, batch_id: str) -> dict[str, int]:
    counted = select(LabelTaskRow.state, func.count()).where(LabelTaskRow.batch_id == batch_id)
    return {str(state): int(films) for state, films in session.execute(counted.group_by(LabelTaskRow.state))}


def _batch(row: LabelBatchRow, states: Mapping[str, int]) -> Batch:
    return Batch(
        id=row.id,
        drawn_at=row.drawn_at,
        drawn_by=row.drawn_by,
        films=row.films,
        pool=row.pool,
        twice=row.twice,
        states=dict(states),
    )
