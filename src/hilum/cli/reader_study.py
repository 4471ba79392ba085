"""``hilum reader-study``: films read with and without the model, planned and scored."""

from pathlib import Path
from typing import Annotated, Literal

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
    name: Annotated[
        str, typer.Option(help="Read it on the service's pages under this name: writes study.json beside the plan.")
    ] = "",
    answer: Annotated[
        Literal["start", "after"],
        typer.Option(help="On the pages: with the model, its answer from the start or after an opinion."),
    ] = "start",
    priors: Annotated[bool, typer.Option("--priors", help="On the pages: a film's prior may be looked at.")] = False,
    out: Annotated[Path, typer.Option(help="Folder for the plan and the readers' lists.")] = Path("reader-study"),
    as_json: JsonOption = False,
) -> None:
    """Plan a study: each film by each reader once with and once without the model, in random order."""
    from hilum.evaluation.reader_study_plan import draw_films, make_plan
    from hilum.runs.reader_study import read_truth, write_plan, write_request

    films = read_truth(truth, part=part)
    films = draw_films(films, each, seed) if each else films
    findings = sorted({film.label for film in films if film.label}) + (also or [])
    plan = make_plan(
        films, reader, finding=finding, findings=tuple(dict.fromkeys(findings)), washout_days=washout_days, seed=seed
    )

    def request(folder: Path) -> None:
        if name:
            write_request(plan, folder, name=name, answer=answer, priors=priors)

    write_plan(plan, out, more=request)
    finish(
        {"path": str(out), "films": len(plan.films), "readers": list(plan.readers), "findings": list(plan.findings)},
        as_json=as_json,
        lines=[
            f"{len(plan.films)} films, {len(plan.readers)} readers, two sessions at least {washout_days} days apart.",
            f"{out / 'plan.json'} holds the truth: keep it from readers. Each reader's list is in {out / 'lists'}.",
            *([f"hilum reader-study register {out} lets {name} be read on the service's pages."] if name else []),
        ],
    )


@app.command()
def register(
    study: Annotated[Path, typer.Argument(help="Folder of hilum reader-study create --name.")],
    data: DataOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Let a study be read on the service's pages; beside a running service or without one.

    Its films must have been sent and answered, and its readers be users who may review.
    """
    from hilum.cli.records import open_records
    from hilum.records.study_reading import ReaderStudies
    from hilum.runs.reader_study import REQUEST
    from hilum.service.rest.reader_studies import asked_for, read_request

    request = read_request(study / REQUEST)
    with open_records(data) as database:
        made = ReaderStudies(database).create(*asked_for(request), actor="console")
    finish(
        {"name": request.name, "readers": list(made.readers)},
        as_json=as_json,
        lines=[f"{request.name} is registered. {', '.join(made.readers)} find it at /reader-study."],
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
    study: Annotated[
        str, typer.Option(metavar="NAME", help="Take what was said in this study on the service's pages.")
    ] = "",
    data: DataOption = HERE,
    out: Annotated[Path, typer.Option(help="Folder for score.json and report.html.")] = Path("reader-study-score"),
    as_json: JsonOption = False,
) -> None:
    """Score the readings: sensitivity, specificity, kappa, and with minus without the model."""
    from hilum.errors import UsageError
    from hilum.evaluation.reader_study_report import headline
    from hilum.runs.reader_study import read_plan, read_readings, score_study, write_score

    if sum(map(bool, (readings, records, study))) != 1:
        raise UsageError("Readings come from one place. Give --readings FILE, --study NAME, or --records.")
    planned = read_plan(plan)
    if readings:
        scored = score_study(planned, read_readings(readings))
    else:
        from hilum.cli.records import url_of
        from hilum.config import fingerprint
        from hilum.records.proving import reading
        from hilum.records.reader_study import page_readings, sequential_readings

        with reading(url_of(data)) as session:
            if study:
                said = page_readings(session, study, fingerprint(planned))
                scored = score_study(planned, said.readings, there=said.there, notes=said.notes)
            else:
                found = sequential_readings(session, planned.readers, [film.film_id for film in planned.films])
                scored = score_study(planned, found, sequential=True)
    write_score(scored, out)
    summary = {"path": str(out), "design": scored.design, "finding": scored.finding, "headline": headline(scored)}
    finish(summary, as_json=as_json, lines=[headline(scored), *scored.notes, f"Report: {out / 'report.html'}"])
