"""The monitor's page, its JSON and its gauges, from what it saw."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np

from hilum.evaluation.calibration_parts import clopper_pearson
from hilum.evaluation.estimates import to_plain
from hilum.intervals import interval, p_value
from hilum.monitoring.culprits import ORDER, Culprit, name_culprit
from hilum.monitoring.looks import Look, StreamLook, Watched, outcome_shares, persistent, throughput
from hilum.monitoring.looks import watch as look_back
from hilum.monitoring.performance import Performance
from hilum.monitoring.plan import WatchPlan
from hilum.monitoring.power import Detectable, detectable
from hilum.monitoring.selftest import Injected
from hilum.records.alarms import Alarm
from hilum.records.observations import Observations, joined
from hilum.reports.page import Block, Facts, Notice, Page, Paragraph, Section, VerdictBox
from hilum.reports.tables import NONE, Cell, Column, number, percent, table


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """All that a page shows."""

    plan: WatchPlan
    """How the site is watched."""
    watched: Watched
    """Reference, looks and spans."""
    made_at: datetime
    """When (UTC)."""
    culprit: Culprit | None
    """What the last two looks' films differ in, where they alarm; None otherwise."""
    power: Detectable | None
    """What could be found at the films of the last look; None before the first."""
    alarms: tuple[Alarm, ...] = ()
    """Alarms, newest first."""
    tested: tuple[Injected, ...] = ()
    """The self-test; empty when none was made."""
    performance: tuple[Performance, ...] = ()
    """What labels say; empty without labels."""
    synthetic: bool = False
    """Whether the records are synthetic."""

    @property
    def alarming(self) -> tuple[str, ...]:
        """Streams that both of the last two looks found."""
        return persistent(self.watched.looks)


def monitor_page(watch: Watch) -> Page:
    """The page as data."""
    sections = [_newest(watch), _history(watch), _shares(watch), _power(watch)]
    sections += [_alarms(watch.alarms)] if watch.alarms else []
    sections += [_performance(watch.performance)] if watch.performance else []
    sections += [_self_test(watch.tested)] if watch.tested else []
    return Page(
        title=f"Drift at {watch.plan.site}",
        lead="Synthetic records; nothing here was measured on a patient." if watch.synthetic else "",
        lead_tone="amber",
        verdict=_verdict(watch),
        sections=tuple(sections),
        footer=f"hilum monitor report, {watch.made_at:%Y-%m-%d %H:%M} UTC",
    )


def _verdict(watch: Watch) -> VerdictBox:
    looks, open_alarms = watch.watched.looks, [one for one in watch.alarms if one.state != "closed"]
    owner = f"{watch.plan.owner} answers for alarms."
    if watch.alarming or open_alarms:
        said = [watch.culprit.sentence] if watch.culprit else [one.sentence for one in open_alarms]
        streams = ", ".join(watch.alarming or open_alarms[0].streams)
        return VerdictBox(tone="red", headline=f"Something changed: {streams}.", lists=(("What", (*said, owner)),))
    if len(looks) < 2:
        few = f"{len(looks)} of 2 looks; {watch.watched.waiting} films wait for the next one."
        return VerdictBox(tone="amber", headline="Not enough was seen yet.", lists=(("Why", (few, owner)),))
    if looks[-1].fired:
        once = f"The last look found {', '.join(looks[-1].fired)}. It is an alarm only if the next look finds it too."
        return VerdictBox(tone="amber", headline="One look found something.", lists=(("What", (once, owner)),))
    return VerdictBox(tone="green", headline="No change was found.", lists=(("Note", (owner,)),))


def _day(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d}"


def _newest(watch: Watch) -> Section:
    looks = watch.watched.looks
    blocks: list[Block] = [
        Facts(
            (
                ("Reference", _span(watch.watched.reference)),
                ("Looks", str(len(looks))),
                ("Films since the last look", str(watch.watched.waiting)),
                ("Level of a look", number(watch.plan.look_level, 3)),
                ("False alarms to be expected a quarter", f"at most {watch.plan.false_alarms_a_quarter:g}"),
            )
        )
    ]
    if looks:
        blocks.append(_streams(looks[-1]))
    if watch.culprit is not None:
        rows = [[name, number(watch.culprit.aurocs[name])] for name in (*ORDER, "all") if name in watch.culprit.aurocs]
        error = watch.culprit.error
        caption = f"How well each attribute alone tells the last two looks' films apart; chance is 0.50 ± {error:.2f}."
        blocks.append(table(caption, ["Attribute", Column(title="AUROC", number=True)], rows))
    return Section(title="The newest look", name="newest", blocks=tuple(blocks))


def _span(films: Observations) -> str:
    return f"{len(films):,} films, {_day(films.at[0])} to {_day(films.at[-1])}"


MEASURES = {
    "class": "total variation",
    "number": "Kolmogorov-Smirnov",
    "features": "MMD",
    "share": "difference of shares",
}


def _streams(newest: Look) -> Any:
    columns: list[Column | str] = [
        "Stream",
        "Measure",
        Column(title="Effect", number=True),
        Column(title="Floor", number=True),
        Column(title="p", unit="Holm", number=True),
        "",
    ]
    caption = (
        f"Look {newest.number}, {_day(newest.since)} to {_day(newest.until)}: {newest.films} films against "
        f"{newest.reference} of the reference. A stream fires when p is at most {newest.level:.3f} "
        "and its effect reaches its floor."
    )
    ordered = sorted(newest.streams, key=lambda one: (not one.fires, np.nan_to_num(one.adjusted, nan=2.0)))
    return table(caption, columns, [_stream_row(one) for one in ordered])


def _stream_row(one: StreamLook) -> list[Cell | str]:
    said = "changed" if one.fires else ""
    if one.found.why_not:
        return [one.name, MEASURES[one.kind], Cell(text=NONE, reason=one.found.why_not), "", "", ""]
    cells: list[Cell | str] = [one.name, MEASURES[one.kind], number(one.found.effect, 3), number(one.floor, 2)]
    return [*cells, p_value(one.adjusted, ".4f", least=0.0001), Cell(text=said, tone="red" if one.fires else "")]


def _history(watch: Watch) -> Section:
    spans, looks = watch.watched.spans, watch.watched.looks
    a_day = throughput(spans)
    rows: list[list[Cell | str]] = [
        [
            str(one.number),
            f"{_day(one.since)} to {_day(one.until)}",
            f"{one.films:,}",
            number(float(rate), 1),
            number(float(np.median(span.seconds)), 2),
            Cell(text=", ".join(one.fired) or "nothing", tone="amber" if one.fired else ""),
        ]
        for one, span, rate in zip(looks, spans, a_day, strict=True)
    ]
    columns: list[Column | str] = [
        Column(title="Look", number=True),
        "Films of",
        Column(title="Films", number=True),
        Column(title="a day", number=True),
        Column(title="Median time to answer", unit="s", number=True),
        "Found",
    ]
    shown = rows[-26:]
    caption = "Looks, oldest first." if len(shown) == len(rows) else f"The last {len(shown)} of {len(rows)} looks."
    block: Block = table(caption, columns, shown) if rows else Paragraph("There was no look yet.")
    return Section(title="All looks", name="looks", blocks=(block,))


def _shares(watch: Watch) -> Section:
    usual = outcome_shares(watch.watched.reference)
    last = outcome_shares(watch.watched.spans[-1]) if watch.watched.spans else {}
    rows = [[name, _share(*usual[name]), _share(*last[name]) if name in last else NONE] for name in usual]
    caption = "Shares with exact 95 % intervals (Clopper and Pearson). Overridden: of answers that a reader has read."
    return Section(
        title="Abstentions, refusals and overrides",
        name="shares",
        blocks=(table(caption, ["", "Reference", "Newest look"], rows),),
    )


def _share(hits: int, n: int) -> Cell:
    if not n:
        return Cell(text=NONE, reason="no films")
    low, high = clopper_pearson(hits, n)
    return Cell(text=percent(hits / n), detail=f"{interval(100 * low, 100 * high, '.1f')} %, {hits:,} of {n:,}")


def _power(watch: Watch) -> Section:
    said = watch.power.sentence if watch.power else "There was no look yet, so nothing can be said."
    return Section(title="What would be found", name="power", blocks=(Paragraph(said),))


def _alarms(alarms: Sequence[Alarm]) -> Section:
    rows: list[list[Cell | str]] = [
        [
            f"{one.opened_at:%Y-%m-%d}",
            one.id,
            Cell(text=one.state, tone={"open": "red", "acknowledged": "amber"}.get(one.state, "")),  # type: ignore[arg-type]
            one.culprit or NONE,
            one.owner,
            one.acknowledged_by or "–",
            one.reason or one.sentence,
        ]
        for one in alarms
    ]
    columns = ["Opened", "Id", "State", "Culprit", "Owner", "Acknowledged by", "Why"]
    return Section(title="Alarms", name="alarms", blocks=(table("Alarms, newest first.", columns, rows),))


def _performance(found: Sequence[Performance]) -> Section:
    names = ("sensitivity", "specificity", "auroc", "calibration gap")
    rows = []
    for one in found:
        figures = {figure.name: figure for figure in one.figures}
        cells: list[Cell | str] = [one.name, f"{one.films:,}", percent(one.completeness)]
        for name in names:
            figure = figures.get(name)
            if figure is None:
                cells.append(Cell(text=NONE, reason=one.why_not))
            else:
                detail = f"{interval(figure.low, figure.high, '.2f')}; as labelled {figure.naive:.2f}"
                cells.append(Cell(text=number(figure.value), detail=detail))
        rows.append(cells)
    caption = (
        "By acquisition time, subgroup and reader. Labels come late and for chosen films, so each labelled film is "
        "weighted for those like it without a label; completeness says how many have one."
    )
    titles = ("Sensitivity", "Specificity", "AUROC", "Calibration gap")
    columns: list[Column | str] = ["", Column(title="Films", number=True), "Labelled", *titles]
    return Section(title="With labels", name="performance", blocks=(table(caption, columns, rows),))


def _self_test(tested: Sequence[Injected]) -> Section:
    rows = [
        [
            one.drift,
            "found" if one.found else "not found",
            one.named or "–",
            Cell(text="as it must" if one.passed else "FAILED", tone="" if one.passed else "red"),
        ]
        for one in tested
    ]
    failed = [one.drift for one in tested if not one.passed]
    blocks: list[Block] = (
        [Notice(tone="red", text=f"The self-test failed for {', '.join(failed)}: such a drift may pass unseen here.")]
        if failed
        else []
    )
    blocks.append(table("Drifts injected into the site's own reference.", ["Drift", "Monitor", "Named", ""], rows))
    return Section(title="Self-test", name="self-test", blocks=tuple(blocks))


def to_json(watch: Watch) -> dict[str, Any]:
    """The same as JSON values; NaN is null."""
    looks = watch.watched.looks
    plain: dict[str, Any] = to_plain(
        {
            "site": watch.plan.site,
            "owner": watch.plan.owner,
            "made_at": watch.made_at.isoformat(),
            "synthetic": watch.synthetic,
            "reference_films": len(watch.watched.reference),
            "alarming": list(watch.alarming),
            "culprit": watch.culprit.name if watch.culprit else "",
            "looks": [_look_json(one) for one in looks],
            "alarms": [{"id": one.id, "state": one.state, "culprit": one.culprit} for one in watch.alarms],
            "self_test": [{"drift": one.drift, "found": one.found, "named": one.named} for one in watch.tested],
            "performance": list(watch.performance),
        }
    )
    return plain


def _look_json(one: Look) -> dict[str, Any]:
    return {
        "number": one.number,
        "since": _day(one.since),
        "until": _day(one.until),
        "films": one.films,
        "fired": list(one.fired),
        "streams": [
            {"name": s.name, "effect": float(s.found.effect), "p": float(s.adjusted), "fires": s.fires}
            for s in one.streams
        ],
    }


def gauges(watch: Watch) -> str:
    """Prometheus gauges in the text format 0.0.4, for a textfile collector; labels hold names of streams alone."""
    looks, unsettled = watch.watched.looks, [one for one in watch.alarms if one.state != "closed"]
    lines = [
        "# HELP hilum_monitor_alarm 1 while two looks in a row, or an alarm that is not closed, say so.",
        "# TYPE hilum_monitor_alarm gauge",
        f"hilum_monitor_alarm {int(bool(watch.alarming or unsettled))}",
        "# HELP hilum_monitor_looks Looks so far.",
        "# TYPE hilum_monitor_looks gauge",
        f"hilum_monitor_looks {len(looks)}",
    ]
    if looks:
        known = [one for one in looks[-1].streams if not np.isnan(one.found.effect)]
        for name, what, values in (
            ("effect", "Effect of each stream in the newest look.", [(s.name, s.found.effect) for s in known]),
            ("fires", "1 where the newest look found a change.", [(s.name, float(s.fires)) for s in known]),
        ):
            lines += [f"# HELP hilum_monitor_{name} {what}", f"# TYPE hilum_monitor_{name} gauge"]
            lines += [f'hilum_monitor_{name}{{stream="{_escaped(stream)}"}} {value:.6g}' for stream, value in values]
    return "\n".join(lines) + "\n"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", " ")


def seen(
    films: Observations,
    plan: WatchPlan,
    at: datetime,
    *,
    alarms: tuple[Alarm, ...] = (),
    performance: tuple[Performance, ...] = (),
    synthetic: bool = False,
) -> Watch:
    """Look at all that was kept, and put together what a page shows.

    Args:
        films: by time.
        plan: how the site is watched.
        at: now.
        alarms: newest first.
        performance: what labels say.
        synthetic: whether the records are.

    Raises:
        DataError: no films, or clocks that jump.
    """
    watched = look_back(films, plan, now=at.timestamp())
    power = None
    if watched.looks:
        last = watched.looks[-1]
        power = detectable(plan, films=last.films, reference=last.reference, streams=len(last.streams))
    return Watch(
        plan=plan,
        watched=watched,
        made_at=at,
        culprit=last_culprit(watched, plan) if persistent(watched.looks) else None,
        power=power,
        alarms=alarms,
        performance=performance,
        synthetic=synthetic,
    )


def last_culprit(watched: Watched, plan: WatchPlan) -> Culprit:
    """What the last two looks' films differ in from the reference."""
    return name_culprit(watched.reference, joined(watched.spans[-2], watched.spans[-1]), seed=plan.seed)
