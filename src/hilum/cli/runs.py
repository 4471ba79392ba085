"""``hilum runs``: which trainings there are, how each went, and what to do next."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hilum.cli.terminal import JsonOption, finish, table

if TYPE_CHECKING:
    from hilum.runs.listing import RunFacts
    from hilum.runs.looking import Look

app = typer.Typer(name="runs", help="Trainings: listed, and looked at.", no_args_is_help=True, rich_markup_mode=None)


@app.command("list")
def list_runs(
    folder: Annotated[Path, typer.Argument(help="Where runs lie; up to three folders deep.")] = Path("runs"),
    as_json: JsonOption = False,
) -> None:
    """List runs: finished ones, and in one sentence where others stopped or what is damaged."""
    from hilum.runs.listing import find_runs

    runs = find_runs(folder)
    header = ("run", "state", "network", "weights", "members", "watched accuracy", "training", "last written")
    lines = table(header, [_cells(run, folder) for run in runs]) if runs else [f"{folder} holds no run."]
    lines += [f"{run.path}: {run.sentence}" for run in runs if run.state != "finished"]
    finish({"path": str(folder), "runs": [_summary(run) for run in runs]}, as_json=as_json, lines=lines)


@app.command("show")
def show_run(
    run: Annotated[Path, typer.Argument(help="A run's folder, finished or not.")], as_json: JsonOption = False
) -> None:
    """Show a run: config, stages, curves, where the time went, over- or under-fit, and what to do next."""
    from hilum.evaluation.estimates import to_plain
    from hilum.runs.listing import read_run
    from hilum.runs.looking import look_at

    look = look_at(read_run(run))
    summary = {
        **_summary(look.facts),
        "config": look.facts.config,
        "stages": to_plain(look.stages),
        "time": {**to_plain(look.time), "bound": look.time.bound},
        "fits": {str(number): to_plain(found) for number, found in look.fits.items()},
        "curves": [str(path) for path in _curves(look)],
        "next": list(look.next_steps),
    }
    finish(summary, as_json=as_json, lines=_lines(look))


def _summary(run: "RunFacts") -> dict[str, Any]:
    return {
        "path": str(run.path),
        "state": run.state,
        "sentence": run.sentence,
        "backbone": run.config.get("backbone"),
        "weights": run.config.get("weights"),
        "members": len(run.members),
        "members_trained": run.trained,
        "watched_accuracy": run.watched_accuracy,
        "seconds": sum(row["seconds"] for row in run.rows),
        "seconds_since_written": round(max(0.0, time.time() - run.written), 1),
    }


def _cells(run: "RunFacts", root: Path) -> tuple[object, ...]:
    told = _summary(run)
    name = run.path.relative_to(root) if run.path != root else run.path
    accuracy = "–" if run.watched_accuracy is None else f"{run.watched_accuracy:.1%}"
    members = f"{run.trained}/{len(run.members)}" if run.members else "–"
    return (
        name,
        run.state,
        told["backbone"] or "–",
        told["weights"] or "–",
        members,
        accuracy,
        f"{told['seconds']:.0f} s",
        f"{_ago(told['seconds_since_written'])} ago",
    )


def _ago(seconds: float) -> str:
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def _lines(look: "Look") -> list[str]:
    from hilum.runs.looking import fit_in_words, spark

    run = look.facts
    lines = [f"{run.path}: {run.state}, last written {_ago(max(0.0, time.time() - run.written))} ago. {run.sentence}"]
    lines += [f"  {name}: {value}" for name, value in _config(run.config)]
    lines += [f"  computed on: {run.result['device']}"] if "device" in run.result else []
    rows = [
        (
            stage.name,
            stage.members,
            stage.epochs,
            stage.best_epochs,
            _number(stage.loss),
            _number(stage.watch_loss),
            "–" if stage.watch_accuracy is None else f"{stage.watch_accuracy:.1%}",
            f"{stage.films_per_s:,.0f}" if stage.films_per_s >= 10 else f"{stage.films_per_s:.2g}",
            f"{stage.time.prefix_s:.3g} s",
            *(f"{seconds:.3g} s" for seconds in (stage.time.data_s, stage.time.compute_s, stage.time.score_s)),
        )
        for stage in look.stages
    ]
    header = ("stage", "members", "epochs", "best", "loss", "watched", "right", "films/s", "frozen layers", "batches")
    lines += ["", *table((*header, "computing", "scoring"), rows)] if rows else []
    lines += ["", look.time.text()] if rows else []
    for member in (member for member in run.members if member.rows):
        losses = [row["watch_loss"] for row in member.rows]
        drawn = f": watched loss {spark(losses)}" if any(loss is not None for loss in losses) else ""
        lines.append(f"member {member.number + 1}{drawn} · {fit_in_words(look, member)}")
    lines += [f"curves: {path}" for path in _curves(look) if path.suffix == ".png"]
    return [*lines, *(f"next: {step}" for step in look.next_steps)]


def _config(config: Any) -> list[tuple[str, object]]:
    """A run's config in pairs: its own fields, and of its recipe what is not a table itself."""
    if not config:
        return []
    recipe = config.get("recipe", {})
    own = {name: value for name, value in config.items() if name != "recipe"}
    plain = {name: value for name, value in recipe.items() if not isinstance(value, dict | list)}
    stages = [
        f"{stage['name']} (from {stage['trainable_from']}, {stage['optimiser']}, lr {stage['lr']:g}, "
        f"{stage['epochs']} epochs, batch {stage['batch_size']}, "
        f"{'fresh views' if stage['views'] is None else '{} views'.format(stage['views'])})"
        for stage in recipe.get("stages", ())
    ]
    own["findings"] = ", ".join(own.get("findings", ()))
    return [*own.items(), *plain.items(), ("stages", "; ".join(stages))]


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _curves(look: "Look") -> list[Path]:
    """Drawn curves in the run's folder."""
    return sorted((look.facts.path / "curves").glob("*.*"))
