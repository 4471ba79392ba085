"""Results on their way out: one thread for each destination, so that one that is away holds up no other."""

import random
import secrets
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from hilum.errors import FilmError, ServiceError
from hilum.records.results_out import Delivery, Outbox
from hilum.records.values import HeatmapRecord
from hilum.service.bell import Bell
from hilum.service.destinations import Destination, Undelivered
from hilum.service.dicom.result import Decision, Heat, Result, ResultObject
from hilum.service.film_files import FilmFiles
from hilum.service.logs import logger, where

POLL_S = 5.0
LEASE_S = 600.0
"""How long a delivery may take before another process may take it up; the network's own limits are far below."""

PASSING = frozenset(("timeout", "crashed", "out-of-memory"))
"""Codes of film errors that may pass."""

NORMAL = "normal"
"""The finding that has no heat map worth sending: the likeliest other one is sent instead."""

Make = Callable[[Path | bytes, Result, Decision | None], Sequence[ResultObject]]
Hand = Callable[[Sequence[ResultObject], Destination], None]


def backoff_s(attempt: int, *, first_s: float, cap_s: float, chance: float) -> float:
    """How long to wait after a failed attempt: doubled each time up to a cap, then shortened by chance to half at most.

    Chance keeps many deliveries from coming back at the same instant to a PACS that has just started.

    Args:
        attempt: how many attempts have failed, from 1.
        first_s: longest wait after the first one.
        cap_s: longest wait of all.
        chance: 0 … 1, drawn anew each time.
    """
    longest = min(cap_s, first_s * 2.0 ** min(attempt - 1, 60))
    return longest * (1.0 - 0.5 * chance)


class ResultsOut:
    """The senders.

    Args:
        outbox: the queue.
        files: where films lie.
        destinations: where results go.
        make: makes the objects of an answer.
        hand_over: hands them over; raises Undelivered.
        organization: who readers work for.
        first_s: longest wait after a first failure.
        cap_s: longest wait between attempts.
        give_up_s: a delivery that still fails so long after it was queued becomes a dead letter.
    """

    def __init__(
        self,
        outbox: Outbox,
        files: FilmFiles,
        destinations: Sequence[Destination],
        *,
        make: Make,
        hand_over: Hand,
        organization: str = "",
        first_s: float = 5,
        cap_s: float = 1800,
        give_up_s: float = 72 * 3600,
        poll_s: float = POLL_S,
    ) -> None:
        self._outbox, self._files, self._make, self._hand_over = outbox, files, make, hand_over
        self._organization = organization
        self._first_s, self._cap_s, self._give_up_s, self._poll_s = first_s, cap_s, give_up_s, poll_s
        self._owner, self._chance = secrets.token_hex(8), random.Random()
        self._bell, self._stopping = Bell(), threading.Event()
        self._threads = [
            threading.Thread(target=self._run, args=(one,), name=f"hilum-results-{one.name}", daemon=True)
            for one in destinations
        ]

    def start(self) -> None:
        """Begin to send."""
        for thread in self._threads:
            thread.start()

    def wake(self, _: str = "") -> None:
        """Say that a result may be waiting."""
        self._bell.ring()

    def stop(self, within_s: float) -> bool:
        """Finish what is being sent; the rest stays in the queue for the next start.

        Returns:
            True when nothing was under way any more.
        """
        self._stopping.set()
        self.wake()
        deadline = time.monotonic() + within_s
        for thread in self._threads:
            if thread.ident is not None:
                thread.join(max(0.0, deadline - time.monotonic()))
        finished = not any(thread.is_alive() for thread in self._threads)
        if finished:
            self._outbox.release(self._owner)
        return finished

    def _run(self, destination: Destination) -> None:
        while not self._stopping.is_set():
            heard, wait_s = self._bell.rings, self._poll_s
            try:
                delivery = self._outbox.claim(destination.name, self._owner, lease_s=LEASE_S)
                if delivery is not None:
                    self._deliver(delivery, destination)
                    continue
                due = self._outbox.next_due_in(destination.name)
                wait_s = wait_s if due is None else min(wait_s, due)
            except ServiceError as error:
                logger().error("records away", reason=str(error))
            except Exception as error:
                logger().error("sender stumbled", destination=destination.name, **where(error))
            self._bell.wait(heard, max(0.01, wait_s))

    def _deliver(self, delivery: Delivery, destination: Destination) -> None:
        log = logger().bind(film=delivery.film_id, destination=destination.name, attempt=delivery.attempts)
        try:
            film, decision = self._files.film(delivery.file_sha256), decision_of(delivery, self._organization)
            self._hand_over(self._make(film.source(), result_of(delivery), decision), destination)
        except Undelivered as error:
            self._failed(delivery, error.code, str(error), passing=not error.permanent)
        except FilmError as error:
            self._failed(delivery, error.code, str(error), passing=error.code in PASSING)
        except Exception as error:
            log.error("result not sent", **where(error))
            reason = f"An internal error ({type(error).__name__}) while the result was sent; the log says where."
            self._failed(delivery, "internal", reason, passing=True)
        else:
            self._outbox.sent(delivery.id, self._owner)
            log.info("result sent")

    def _failed(self, delivery: Delivery, code: str, reason: str, *, passing: bool) -> None:
        wait_s = backoff_s(delivery.attempts, first_s=self._first_s, cap_s=self._cap_s, chance=self._chance.random())
        again = passing and self._outbox.age_s(delivery) + wait_s < self._give_up_s
        self._outbox.failed(delivery.id, self._owner, code=code, reason=reason, retry_after_s=wait_s if again else None)
        logger().warning(
            "result not sent",
            film=delivery.film_id,
            destination=delivery.destination,
            attempt=delivery.attempts,
            code=code,
            reason=reason,
            again_in_s=round(wait_s, 1) if again else None,
        )


def result_of(delivery: Delivery) -> Result:
    """What is to be said, from what was recorded."""
    said = delivery.assessment
    made_by = said.get("provenance", {})
    return Result(
        content_sha256=delivery.content_sha256,
        model_sha256=delivery.model_sha256,
        model_name=str(made_by.get("bundle_name", "model")),
        model_version=str(made_by.get("bundle_version", delivery.model_sha256[:12])),
        parameters=tuple(
            f"{name}={made_by[key]}"
            for name, key in (
                ("preprocessing", "preprocessing_fingerprint"),
                ("runtime", "runtime"),
                ("precision", "precision"),
            )
            if key in made_by
        ),
        software=str(made_by.get("hilum", "")),
        probs=dict(said.get("probs", {})),
        spread=dict(said.get("uncertainty", {}).get("mc_std", {})),
        label=delivery.label,
        positive=tuple(said.get("positive", ())),
        reasons=tuple(said.get("reasons", ())),
        # In this machine's time zone, as a modality would; the objects name no offset unless the film does.
        made_at=delivery.answered_at.astimezone().isoformat(timespec="seconds"),
        heat=_heat(delivery),
    )


def decision_of(delivery: Delivery, organization: str) -> Decision | None:
    """What a reader decided; None when the answer itself is sent.

    Args:
        delivery: what is sent.
        organization: who readers work for.
    """
    review = delivery.review
    if review is None:
        return None
    return Decision(
        id=review.id,
        verdict="agreed" if review.decision == "agree" else "overridden",
        finding=review.finding or delivery.label,
        comment=review.comment,
        reader=review.reader,
        organization=organization,
        decided_at=review.created_at.astimezone().isoformat(timespec="seconds"),
    )


def finding_drawn(
    label: str | None, maps: Iterable[str], probs: Mapping[str, float] = MappingProxyType({})
) -> str | None:
    """Which finding's heat map is sent: the answer's own, or the likeliest that is not normal; None for none.

    Args:
        label: what the answer says; None when it abstained.
        maps: findings that there are heat maps of.
        probs: probability by finding; only which one is sent depends on it, not whether one is.
    """
    if label not in (None, NORMAL):
        return label if label in maps else None
    return max((name for name in maps if name != NORMAL), key=lambda name: probs.get(name, 0.0), default=None)


def _heat(delivery: Delivery) -> Heat | None:
    said, maps = delivery.assessment, {one.finding: one for one in delivery.heatmaps}
    chosen = finding_drawn(delivery.label, maps, said.get("probs", {}))
    if chosen is None or "preprocessing" not in said or "heatmap_top" not in said:
        return None
    return Heat(
        finding=chosen,
        values=_values(maps[chosen]),
        top=float(said["heatmap_top"]),
        preprocessing=dict(said["preprocessing"]),
    )


def _values(heatmap: HeatmapRecord) -> Any:
    return np.frombuffer(heatmap.values, "<f4").reshape(heatmap.rows, heatmap.columns)
