"""``hilum study``: the lab's studies, one by one or all of them as one site."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from hilum.cli.terminal import JsonOption, QuietOption, finish, progress, table

app = typer.Typer(
    name="study",
    help="The lab: CNN studies that measure a question, draw it, and say what they found.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

BudgetOption = Annotated[
    Literal["quick", "standard", "full"],
    typer.Option(help="quick: five minutes on two CPU cores; standard: the whole set, on a CPU; full: for a GPU."),
]
SeedOption = Annotated[int, typer.Option(min=0, help="Seed of all chance; the same seed gives the same numbers.")]
DataDirOption = Annotated[
    Path | None,
    typer.Option(help="Root of real data: mnist/, cifar10/, flowers/, ants_bees/, chest/, weights/."),
]
DeviceOption = Annotated[Literal["auto", "cpu", "cuda"], typer.Option(help="Where networks are computed.")]
OfflineOption = Annotated[bool, typer.Option("--offline", help="Download neither data nor weights.")]
CacheOption = Annotated[
    Path | None,
    typer.Option(help="Folder for decoded images and downloads.", show_default="~/.cache/hilum"),
]


@app.command("list")
def list_studies(as_json: JsonOption = False) -> None:
    """List the studies and what each asks."""
    from hilum.studies.table import STUDIES

    rows = [{"name": s.name, "title": s.title, "question": s.question, "topic": s.topic} for s in STUDIES]
    lines = table(("name", "question"), [(s.name, s.question) for s in STUDIES])
    finish({"studies": rows}, as_json=as_json, lines=[*lines, "", "Run one: hilum study run NAME"])


@app.command("run")
def run_one(
    name: Annotated[str, typer.Argument(help="Name of a study; hilum study list shows them.")],
    data: Annotated[str, typer.Option(help="auto, the name of a set, or a folder of class folders.")] = "auto",
    data_dir: DataDirOption = None,
    budget: BudgetOption = "quick",
    seed: SeedOption = 0,
    weights: Annotated[str, typer.Option(help="auto, imagenet, hilum, none, or a .safetensors file.")] = "auto",
    backbone: Annotated[
        str, typer.Option(help="Network of the zoo (hilum models list).", show_default="the study's own")
    ] = "",
    image: Annotated[
        Path | None, typer.Option(help="A picture to explain (alexnet-filters).", show_default="the study's own")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="The study's folder.", show_default="studies/NAME")] = None,
    device: DeviceOption = "auto",
    cache: CacheOption = None,
    offline: OfflineOption = False,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Run one study: measures, draws, and writes a report that says what it found."""
    from hilum.studies.table import study

    study(name)  # before torch is loaded: a wrong name gets its answer at once
    from hilum.studies.running import run_study

    done = run_study(
        name,
        data=data,
        data_dir=data_dir,
        budget=budget,
        seed=seed,
        weights=weights,
        backbone=backbone,
        image=image,
        device=device,
        out=out,
        cache=cache,
        download=not offline,
        progress=progress(quiet),
    )
    values = done.values
    from hilum.studies.outcome import Number

    numbers = [Number(**number) for number in values["numbers"]]
    lines = [
        values["first_line"],
        "",
        *table(("quantity", "measured", "published"), [(n.name, n.text(), n.published or "–") for n in numbers]),
        "",
        values["finding"],
        f"report: {done.report.path}",
    ]
    finish({**values, "path": str(done.folder)}, as_json=as_json, lines=lines)


@app.command("atlas")
def run_atlas(
    out: Annotated[Path, typer.Option(help="Folder of the site.")] = Path("atlas"),
    data_dir: DataDirOption = None,
    budget: BudgetOption = "quick",
    seed: SeedOption = 0,
    device: DeviceOption = "auto",
    cache: CacheOption = None,
    offline: OfflineOption = False,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Run all studies, going on where it was stopped, into one static site that links every report."""
    from hilum.studies.atlas import make_atlas

    done = make_atlas(
        out,
        data_dir=data_dir,
        budget=budget,
        seed=seed,
        device=device,
        cache=cache,
        download=not offline,
        progress=progress(quiet),
    )
    rows = [(entry["study"], entry["state"], entry["seconds"]) for entry in done["studies"]]
    finish(done, as_json=as_json, lines=[*table(("study", "state", "seconds"), rows), f"site: {out / 'index.html'}"])
    if any(entry["state"] == "failed" for entry in done["studies"]):
        raise typer.Exit(1)
