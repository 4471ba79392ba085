"""What a run did and what to do next: stages, where the time went, whether it fits, all computed from its rows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from hilum.errors import DataError
from hilum.evaluation.fitting_curves import FitCurves
from hilum.evaluation.fitting_diagnosis import Diagnosis, Limit, diagnose
from hilum.runs.listing import MemberFacts, RunFacts

Bound = Literal["data-bound", "compute-bound", "unknown"]
"""Whether epochs wait longer for their batches than they compute."""

BARS = "▁▂▃▄▅▆▇█"
"""A curve in text: one character an epoch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeSplit:
    """Where the seconds of some epochs went."""

    prefix_s: float
    """Running frozen layers once, before the first epochs."""
    data_s: float
    """Making batches: reading, augmenting, and in live stages the frozen layers."""
    compute_s: float
    """Forward, backward and step."""
    score_s: float
    """Scoring the watched films."""
    measured: bool
    """False when rows of an older version do not tell the parts."""

    @property
    def epochs_s(self) -> float:
        """Seconds of all epochs."""
        return self.data_s + self.compute_s + self.score_s

    @property
    def bound(self) -> Bound:
        """Data-bound when more seconds go into making batches than into computing with them."""
        if not self.measured or not self.epochs_s:
            return "unknown"
        return "data-bound" if self.data_s > self.compute_s else "compute-bound"

    def text(self) -> str:
        """One sentence with the numbers."""
        if self.bound == "unknown":
            return "Where the time went was not measured."
        share = {name: getattr(self, f"{name}_s") / self.epochs_s for name in ("data", "compute", "score")}
        parts = (
            f"of {self.epochs_s:.3g} s in epochs {share['data']:.0%} made batches, {share['compute']:.0%} computed and "
            f"{share['score']:.0%} scored watched films; frozen layers took {self.prefix_s:.3g} s before"
        )
        if self.bound == "compute-bound":
            return f"Compute-bound: {parts}."
        return f"Data-bound: {parts}. Without that waiting epochs would take {self.epochs_s - self.data_s:.3g} s."


@dataclass(frozen=True, slots=True, kw_only=True)
class StageLook:
    """One stage over the members that have begun it."""

    name: str
    """Of the stage."""
    members: int
    """Members that have at least one epoch of it."""
    epochs: str
    """Epochs of each member, such as ``12–30``."""
    best_epochs: str
    """Epochs, from 1, whose weights were kept."""
    loss: float | None
    """Mean over members of the fitted loss in the last epoch."""
    watch_loss: float | None
    """Mean over members of the lowest loss on watched films."""
    watch_accuracy: float | None
    """Mean over members of the accuracy on watched films in that epoch, 0 … 1."""
    films_per_s: float
    """Median over epochs."""
    time: TimeSplit
    """Where its time went, all members together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """A run, looked at."""

    facts: RunFacts
    """What its folder tells."""
    stages: tuple[StageLook, ...]
    """Its stages, in order."""
    time: TimeSplit
    """Where the time went in all."""
    fits: Mapping[int, Diagnosis]
    """Over- or under-fit, by member; members whose curves can't be read are left out."""
    next_steps: tuple[str, ...]
    """What to do next, most pressing first."""


def look_at(facts: RunFacts) -> Look:
    """Read a run's rows."""
    rows = facts.rows
    names = list(dict.fromkeys(str(row["stage"]) for row in rows))
    fits = {member.number: found for member in facts.members if (found := _fit(member.rows)) is not None}
    time = time_split(rows, [stage for member in facts.members for stage in member.stages])
    return Look(
        facts=facts,
        stages=tuple(_stage(name, facts) for name in names),
        time=time,
        fits=fits,
        next_steps=tuple(_next_steps(facts, time, fits)),
    )


def time_split(rows: Sequence[Mapping[str, Any]], summaries: Sequence[Mapping[str, Any]] = ()) -> TimeSplit:
    """Where the seconds of epochs went.

    Args:
        rows: of metrics.
        summaries: of stages, for the seconds of frozen layers.
    """
    kinds = ("data_s", "compute_s", "score_s")
    return TimeSplit(
        prefix_s=sum(float(summary["prefix_s"]) for summary in summaries),
        **{kind: sum(float(row.get(kind, 0.0)) for row in rows) for kind in kinds},
        measured=all(kind in row for kind in kinds for row in rows) and bool(rows),
    )


def _stage(name: str, facts: RunFacts) -> StageLook:
    by_member = [[row for row in member.rows if row["stage"] == name] for member in facts.members]
    begun = [rows for rows in by_member if rows]
    best = [row for rows in begun if (row := _best(rows)) is not None]
    summaries = [stage for member in facts.members for stage in member.stages if stage["name"] == name]
    every = [row for rows in begun for row in rows]
    speeds = sorted(float(row["films_per_s"]) for row in every)
    return StageLook(
        name=name,
        members=len(begun),
        epochs=_span([len(rows) for rows in begun]),
        best_epochs=_span([row["epoch"] for row in best]),
        loss=_mean([rows[-1]["loss"] for rows in begun]),
        watch_loss=_mean([row["watch_loss"] for row in best]),
        watch_accuracy=_mean([row["watch_accuracy"] for row in best]),
        films_per_s=speeds[len(speeds) // 2],
        time=time_split(every, summaries),
    )


def _best(rows: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    watched = [row for row in rows if row["watch_loss"] is not None]
    return min(watched, key=lambda row: float(row["watch_loss"])) if watched else None


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _span(counts: Sequence[int]) -> str:
    if not counts:
        return "–"
    low, high = min(counts), max(counts)
    return f"{low}" if low == high else f"{low}–{high}"


def _fit(rows: Sequence[Mapping[str, Any]]) -> Diagnosis | None:
    """Over- or under-fit of one member over all its epochs; None when nothing was watched."""
    try:
        curves = FitCurves.of_rows(rows) if rows and "probe_loss" in rows[0] else _running(rows)
    except DataError:
        return None
    return diagnose(curves)


def _running(rows: Sequence[Mapping[str, Any]]) -> FitCurves:
    """Curves whose training side is the running one: of augmented films, with dropout."""
    named = [{**row, "running_loss": row.get("loss"), "running_accuracy": row.get("accuracy")} for row in rows]
    return FitCurves.of_rows(named, train="running")


def fit_in_words(look: Look, member: MemberFacts) -> str:
    """Over- or under-fit of a member in words, with what the training curve is."""
    if member.number not in look.fits:
        return "No films were watched, so over- and under-fit can't be told."
    sentence = look.fits[member.number].sentence
    if "probe_loss" in member.rows[0]:
        return sentence
    return f"{sentence} (Training values are running ones, of augmented films with dropout: the real gap is larger.)"


HELP: Mapping[Limit, str] = {
    "still training": "Give the last stage more epochs (or a higher rate): its losses still fall.",
    "short of data": "Add films, or more varied ones, or strengthen the augmentation: training films are learnt better "
    "than watched ones.",
    "short of capacity": "Train more layers, raise the rate, or take a larger network: training films are not learnt.",
}
"""What helps against what is wanting."""


def _next_steps(facts: RunFacts, time: TimeSplit, fits: Mapping[int, Diagnosis]) -> list[str]:
    """What to do next, most pressing first."""
    if facts.state != "finished":
        return [facts.sentence]
    steps = (
        [] if (facts.path / "evaluation").is_dir() else [f"Measure it on the locked share: hilum evaluate {facts.path}"]
    )
    limits = [found.limit for found in fits.values()]
    # The commonest limit; of equally common ones the first in the table.
    wanting = max(HELP, key=limits.count)
    if wanting in limits:
        steps.append(HELP[wanting])
    live = sorted({str(s["name"]) for m in facts.members for s in m.stages if s["frozen_layers"] and not s["cached"]})
    if time.bound == "data-bound" and live:
        steps.append(
            f"Give stage {', '.join(live)} fixed views in its recipe: its frozen layers are run anew for every batch."
        )
    elif time.bound == "data-bound":
        steps.append(
            "Batches are made slower than they are computed with: lighten the augmentation, or give more cores."
        )
    if facts.result.get("calibration_optimistic"):
        steps.append("Train with --folds 5 for a calibration on films that no member has fitted or watched.")
    return [*steps, f"Make a bundle of it: hilum bundle create {facts.path} --out {facts.path.name}.hilum"]


def spark(values: Sequence[float | None]) -> str:
    """A curve as text, lowest ▁ to highest █; a gap where there is no value."""
    known = [value for value in values if value is not None]
    if not known:
        return ""
    low, span = min(known), max(known) - min(known) or 1.0
    top = len(BARS) - 1
    return "".join(" " if value is None else BARS[round((value - low) / span * top)] for value in values)
