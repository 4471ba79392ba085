"""``hilum reader-study``: films read with and without the model, planned and scored."""

from pathlib import Path
from typing import Annotated

import typer

from hilum.cli.records import DataOption
from hilum.cli.terminal import JsonOption, finish

app = typer.Typer(name="reader-study", help="Readers with and without the model: plan and score.", no_args_is_help=True)
HERE = Path("hilum-data")


@app.callback()
def reader_study() -> None:
    """Readers with and without the model: a balanced crossover planned, and readings scored."""


@app.command()
def create(
    truth: Annotated[
        Path,
        typer.Argument(help="Films with their truth: a manifest, predictions, or a CSV of film_id,label,patient_id."),
    ],
    reader: Annotated[list[str], typer.Option(metavar="NAME", help="Who reads; give it once for each reader.")],
    finding: Annotated[str, typer.Option(metavar="NAME", help="The question: whose sensitivity and specificity.")],
    also: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="A further answer that readers may give; no film shows it.")
    ] = None,
    part: Annotated[str, typer.Option(help="Only this part of a manifest, such as test.")] = "",
    each: Annotated[int, typer.Option(min=0, help="Draw so many patients of each label; 0 takes every film.")] = 0,
    washout_days: Annotated[int, typer.Option(min=0, help="Least days between a reader's two readings.")] = 28,
    seed: Annotated[int, typer.Option(min=0, help="Of the draw and of the intervals.")] = 0,
    out: Annotated[Path, typer.Option(help="Folder for the plan and the readers' lists.")] = Path("reader-study"),
    as_json: JsonOption = False,
) -> None:
    """Plan a study: each film by each reader once with and once without the model, in random order."""
    from hilum.evaluation.reader_study_plan import draw_films, make_plan
    from hilum.runs.reader_study import read_truth, write_plan

    films = read_truth(truth, part=part)
    films = draw_films(films, each, seed) if each else films
    findings = sorted({film.label for film in films if film.label}) + (also or [])
    plan = make_plan(
        films, reader, finding=finding, findings=tuple(dict.fromkeys(findings)), washout_days=washout_days, seed=seed
    )
    write_plan(plan, out)
    finish(
        {"path": str(out), "films": len(plan.films), "readers": list(plan.readers), "findings": list(plan.findings)},
        as_json=as_json,
        lines=[
            f"{len(plan.films)} films, {len(plan.readers)} readers, two sessions at least {washout_days} days apart.",
            f"{out / 'plan.json'} holds the truth: keep it from readers. Each reader's list is in {out / 'lists'}.",
        ],
    )


@app.command()
def score(
    plan: Annotated[Path, typer.Argument(help="Folder of hilum reader-study create, or its plan.json.")],
    readings: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help="Filled-in list, CSV or Parquet; may be given several times."),
    ] = None,
    records: Annotated[
        bool, typer.Option("--records", help="Take read-first opinions and the reviews after them from the records.")
    ] = False,
    data: DataOption = HERE,
    out: Annotated[Path, typer.Option(help="Folder for score.json and report.html.")] = Path("reader-study-score"),
    as_json: JsonOption = False,
) -> None:
    """Score the readings: sensitivity, specificity, kappa, and with minus without the model."""
    from hilum.errors import UsageError
    from hilum.evaluation.reader_study_report import headline
    from hilum.runs.reader_study import read_plan, read_readings, score_study, write_score

    if bool(readings) == records:
        raise UsageError("Readings come from files or from the records. Give --readings FILE, or --records.")
    planned = read_plan(plan)
    found = read_readings(readings or [])
    if records:
        from hilum.cli.records import url_of
        from hilum.records.proving import reading
        from hilum.records.reader_study import sequential_readings

        with reading(url_of(data)) as session:
            found = sequential_readings(session, planned.readers, [film.film_id for film in planned.films])
    scored = score_study(planned, found, sequential=records)
    write_score(scored, out)
    summary = {"path": str(out), "design": scored.design, "finding": scored.finding, "headline": headline(scored)}
    finish(summary, as_json=as_json, lines=[headline(scored), *scored.notes, f"Report: {out / 'report.html'}"])
