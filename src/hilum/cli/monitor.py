"""``hilum monitor``: watch for drift, keep alarms, and prove that the watching works."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hilum.cli.records import DataOption
from hilum.cli.terminal import JsonOption, ServiceAuthorities, finish

if TYPE_CHECKING:
    from hilum.client.answers import ModelCheck
    from hilum.monitoring.plan import WatchPlan
    from hilum.monitoring.report import Watch
    from hilum.records.alarms import Alarm
    from hilum.records.observations import Observations

app = typer.Typer(name="monitor", help="Watch for drift, keep alarms, test the watching.", no_args_is_help=True)
HERE = Path("hilum-data")
PlanOption = Annotated[
    Path | None, typer.Option("--plan", help="TOML file of the site's watch plan; defaults where absent.")
]
OwnerOption = Annotated[str | None, typer.Option("--owner", help="Who answers for alarms, where there is no plan.")]
ByOption = Annotated[str, typer.Option("--by", help="Who does it.")]


@app.callback()
def monitor() -> None:
    """Watch for drift, keep alarms, test the watching; docs/monitoring.md says what a look does.

    All of it works on the records of a running service as well.
    """


@app.command()
def report(
    data: DataOption = HERE,
    plan: PlanOption = None,
    owner: OwnerOption = None,
    out: Annotated[Path, typer.Option(help="Folder for monitor.html, .json and .prom.")] = Path("monitor"),
    finding: Annotated[str | None, typer.Option(help="Finding whose labels are measured, with --threshold.")] = None,
    threshold: Annotated[float | None, typer.Option(help="Its operating point.", min=0, max=1)] = None,
    as_json: JsonOption = False,
) -> None:
    """Write the monitor's page, with its JSON and Prometheus gauges."""
    rules = _plan(plan, owner)
    seen = _watch(_films(data), rules, alarms=_alarms(data), performance=_performance(data, finding, threshold))
    _write(seen, out)
    summary = {"path": str(out / "monitor.html"), "looks": len(seen.watched.looks), "alarming": list(seen.alarming)}
    finish(summary, as_json=as_json)


@app.command()
def check(
    data: DataOption = HERE,
    plan: PlanOption = None,
    owner: OwnerOption = None,
    out: Annotated[Path | None, typer.Option(help="Also write the report to this folder.")] = None,
    webhook: Annotated[
        str | None,
        typer.Option(help="https address that a new alarm is told to.", envvar="HILUM_MONITOR_WEBHOOK"),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Take the newest look in: open, follow or close an alarm; ends with 1 while one is not closed."""
    from dataclasses import replace

    from hilum.cli.records import open_records
    from hilum.monitoring.alarm_book import AlarmBook
    from hilum.monitoring.webhook import tell

    rules = _plan(plan, owner)
    with open_records(data) as database:
        book = AlarmBook(database)
        seen = _watch(_films(data), rules)
        alarm, anew = book.advance(seen.watched.looks, rules, lambda: _named(seen))
        seen = replace(seen, alarms=book.alarms())
    if out is not None:
        _write(seen, out)
    told = 0
    if anew and alarm is not None and webhook:
        told = tell(webhook, _message(alarm, rules))
    unsettled = alarm is not None and alarm.state != "closed"
    lines = [_words(alarm)] if alarm is not None else [f"{len(seen.watched.looks)} looks, no alarm"]
    summary = {"alarm": alarm.id if alarm else None, "opened_now": anew, "told": told, "looks": len(seen.watched.looks)}
    finish(summary, as_json=as_json, lines=lines)
    if unsettled:
        raise typer.Exit(1)


@app.command()
def performance(
    data: DataOption = HERE,
    bundle: Annotated[Path | None, typer.Option(help="Measure each finding at this bundle's operating point.")] = None,
    finding: Annotated[str | None, typer.Option(help="One finding instead, with --threshold.")] = None,
    threshold: Annotated[float | None, typer.Option(help="Its operating point.", min=0, max=1)] = None,
    by: Annotated[str, typer.Option("--by", help="Who does it.")] = "console",
    as_json: JsonOption = False,
) -> None:
    """Measure what labels say of the answers, keep it in the records, and so show it on the page of models.

    Sensitivity, specificity, AUROC and calibration gap, weighted for the films without a label; docs/monitoring.md says
    how.
    """
    from datetime import UTC, datetime

    from hilum.cli.records import open_records
    from hilum.cli.terminal import table
    from hilum.intervals import interval
    from hilum.monitoring.labels import to_keep
    from hilum.records.performance import keep

    points, at = _points(bundle, finding, threshold), datetime.now(UTC)
    found = [
        to_keep(_performance(data, name, point), finding=name, threshold=point, by=by, at=at) for name, point in points
    ]
    with open_records(data) as database, database.write() as session:
        for one in found:
            keep(session, one)
    rows = []
    for one in found:
        whole = one.spans[0]
        figures = [
            f"{e.name} {e.value:.2f} ({interval(e.low, e.high, '.2f')})"
            for e in whole.estimates
            if e.value is not None and e.low is not None and e.high is not None
        ]
        told = ", ".join(figures) or whole.why_not
        rows.append([one.finding, f"{one.threshold:g}", f"{whole.labelled} of {whole.films}", told])
    summary = [{"finding": o.finding, "films": o.spans[0].films, "labelled": o.spans[0].labelled} for o in found]
    finish({"measured": summary}, as_json=as_json, lines=table(["finding", "from", "labelled", "with labels"], rows))


def _points(bundle: Path | None, finding: str | None, threshold: float | None) -> list[tuple[str, float]]:
    from hilum.bundle.reading import read_bundle
    from hilum.errors import UsageError

    if bundle is not None:
        if finding is not None or threshold is not None:
            raise UsageError("--bundle names findings and operating points. Leave --finding and --threshold out.")
        points = list(read_bundle(bundle).info.thresholds.items())
        if not points:
            raise UsageError(f"{bundle} has no operating points. Give --finding and --threshold.")
        return points
    if finding is None or threshold is None:
        raise UsageError("Say what is measured, and where: --bundle, or --finding with --threshold.")
    return [(finding, threshold)]


@app.command()
def selftest(
    data: DataOption = HERE,
    plan: PlanOption = None,
    owner: OwnerOption = None,
    films: Annotated[int, typer.Option(help="Films of a look.", min=1)] = 200,
    week: Annotated[int, typer.Option(help="Number of the week, so that other films are drawn.", min=0)] = 0,
    url: Annotated[
        str | None,
        typer.Option(help="Address of the running service, whose model answers its fixed phantom films again."),
    ] = None,
    accept: Annotated[
        str, typer.Option(help="Why the running model's present answers count from now on, instead of comparing them.")
    ] = "",
    ca: ServiceAuthorities = None,
    as_json: JsonOption = False,
) -> None:
    """Inject drifts into the site's own reference; ends with 1 when one is not found and named, or the control is.

    With --url (and a key with models:write in HILUM_API_KEY) the running model answers fixed phantom films, too, and
    must say what it said of them at first: an update beneath it may change answers without a sound.
    """
    from hilum.cli.terminal import service_key, table
    from hilum.monitoring.selftest import self_test

    rules = _plan(plan, owner)
    key = None if url is None else service_key("models:write")  # before the work, which takes long
    tested = self_test(_watch(_films(data), rules).watched.reference, rules, films=films, week=week)
    rows = [[one.drift, one.found, one.named or "–", "passed" if one.passed else "FAILED"] for one in tested]
    checked = _checked(url, key, accept, ca)
    passed = all(one.passed for one in tested) and (checked is None or checked.passed)
    lines = table(["drift", "found", "named", ""], rows)
    lines.append(checked.sentence if checked else "the running model was not checked: give --url")
    found = [{"drift": one.drift, "found": one.found, "named": one.named, "passed": one.passed} for one in tested]
    model = (
        None if checked is None else {"passed": checked.passed, "films": checked.films, "recorded": checked.recorded}
    )
    finish({"passed": passed, "drifts": found, "model": model}, as_json=as_json, lines=lines)
    if not passed:
        raise typer.Exit(1)


@app.command()
def alarms(data: DataOption = HERE, as_json: JsonOption = False) -> None:
    """List alarms, newest first."""
    found = _alarms(data)
    rows = [{"id": one.id, "state": one.state, "owner": one.owner, "culprit": one.culprit} for one in found]
    finish({"alarms": rows}, as_json=as_json, lines=[_words(one) for one in found] or ["there was no alarm yet"])


@app.command()
def acknowledge(
    alarm: Annotated[str, typer.Argument(metavar="ID", help="One of hilum monitor alarms.")],
    by: ByOption,
    data: DataOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Take an alarm on."""
    _act("acknowledge", data, alarm, as_json, by=by)


@app.command()
def close(
    alarm: Annotated[str, typer.Argument(metavar="ID", help="One of hilum monitor alarms.")],
    by: ByOption,
    reason: Annotated[str, typer.Option("--reason", help="What was found, in one sentence.")],
    data: DataOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Close an alarm, and say why."""
    _act("close", data, alarm, as_json, by=by, reason=reason)


def _act(step: str, data: Path, alarm_id: str, as_json: bool, **arguments: str) -> None:
    from hilum.cli.records import open_records
    from hilum.records.alarms import Alarms

    with open_records(data) as database:
        done = getattr(Alarms(database), step)(alarm_id, **arguments)
    finish({"alarm": done.id, "state": done.state}, as_json=as_json, lines=[_words(done)])


def _checked(url: str | None, key: str | None, accept: str, ca: Path | None) -> "ModelCheck | None":
    from hilum.client.api import Client

    if url is None:
        return None
    with Client(url, key=key, ca=ca) as client:
        return client.check_model(accept=accept)


def _plan(path: Path | None, owner: str | None) -> "WatchPlan":
    from hilum.errors import UsageError
    from hilum.monitoring.plan import WatchPlan, read_watch_plan

    if path is not None:
        return read_watch_plan(path)
    if owner is None:
        raise UsageError("An alarm needs somebody who answers for it. Give --plan FILE, or --owner NAME.")
    return WatchPlan(owner=owner)


def _films(data: Path) -> "Observations":
    from hilum.cli.records import keyring_given, url_of
    from hilum.records.observations import observed_findings, read_observations
    from hilum.records.proving import reading

    with reading(url_of(data), keyring_given()) as session:
        return read_observations(session, observed_findings(session))


def _alarms(data: Path) -> "tuple[Alarm, ...]":
    from hilum.cli.records import url_of
    from hilum.records.alarms import newest_first, to_alarm
    from hilum.records.proving import reading

    with reading(url_of(data)) as session:
        return tuple(to_alarm(row) for row in session.scalars(newest_first()))


def _performance(data: Path, finding: str | None, threshold: float | None) -> Any:
    from hilum.cli.records import keyring_given, url_of
    from hilum.errors import UsageError
    from hilum.monitoring.labels import measured
    from hilum.records.proving import reading

    if (finding is None) != (threshold is None):
        raise UsageError("--finding and --threshold go together: labels are measured at an operating point.")
    if finding is None or threshold is None:
        return ()
    with reading(url_of(data), keyring_given()) as session:
        return measured(session, finding, threshold)


def _watch(films: "Observations", rules: "WatchPlan", **more: Any) -> "Watch":
    from datetime import UTC, datetime

    from hilum.monitoring.report import Watch, seen

    at = datetime.now(UTC)
    made: Watch = seen(films, rules, at, **more)
    return made


def _named(seen: "Watch") -> Any:
    from hilum.monitoring.report import last_culprit

    return last_culprit(seen.watched, seen.plan)


def _write(seen: "Watch", out: Path) -> None:
    from hilum.files import write_bytes
    from hilum.monitoring.report import gauges, monitor_page, to_json
    from hilum.reports.page import render_page

    out.mkdir(parents=True, exist_ok=True)
    write_bytes(out / "monitor.html", render_page(monitor_page(seen)).encode())
    write_bytes(out / "monitor.json", json.dumps(to_json(seen), ensure_ascii=False, allow_nan=False).encode())
    write_bytes(out / "monitor.prom", gauges(seen).encode())


def _message(alarm: "Alarm", rules: "WatchPlan") -> dict[str, Any]:
    return {
        "alarm": alarm.id,
        "site": rules.site,
        "owner": alarm.owner,
        "opened_at": alarm.opened_at.isoformat(),
        "culprit": alarm.culprit,
        "streams": list(alarm.streams),
        "sentence": alarm.sentence,
    }


def _words(alarm: "Alarm") -> str:
    return f"{alarm.id}  {alarm.opened_at:%Y-%m-%d}  {alarm.state}  ({alarm.owner}): {alarm.reason or alarm.sentence}"
