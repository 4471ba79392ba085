"""``hilum demo``: the whole way in one command."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hilum.cli.terminal import JsonOption, QuietOption, finish, progress

if TYPE_CHECKING:
    from hilum.demo.clinic import ClinicConfig


def demo(
    out: Annotated[
        Path | None,
        typer.Option(help="Folder of everything; what is finished there is kept.", show_default="demo, or demo-clinic"),
    ] = None,
    clinic: Annotated[
        bool,
        typer.Option(
            "--clinic",
            help="A clinic's story with PostgreSQL, Orthanc and a browser: answers, drift, another model, and back.",
        ),
    ] = False,
    leave: Annotated[bool, typer.Option("--exit", help="Stop the service after the story.")] = False,
    patients: Annotated[
        int | None, typer.Option(min=60, help="Synthetic patients.", show_default="400, or 540 with --clinic")
    ] = None,
    size: Annotated[int, typer.Option(min=128, help="Rows of a film.")] = 1024,
    difficulty: Annotated[float, typer.Option(help="How faint lesions are: 0.5 plain, 2 hard.")] = 1.0,
    folds: Annotated[int, typer.Option(min=1, help="Members of the ensemble.")] = 5,
    seed: Annotated[int, typer.Option(min=0, help="Seed of all chance.")] = 0,
    port: Annotated[int, typer.Option(help="Port of REST and page; 0: a free one.")] = 8042,
    dicom_port: Annotated[int, typer.Option(help="Port of the DICOM listener; 0: a free one.")] = 11112,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """From synthetic films to an answer in the reading room: draw, train, test, serve, send, read back.

    With --clinic: a clinic's story; --size, --difficulty, --folds and the ports don't count there. Films and
    models in the folder are kept, and used again; the clinic itself starts clean. Ends with 1 when a check fails.
    """
    import sys

    # Standard output's last line is the JSON, when it is asked for; the story goes beside it.
    told = sys.stderr if as_json else sys.stdout

    def said(line: str) -> None:
        print(line, file=told, flush=True)

    if clinic:
        from hilum.demo.clinic import ClinicConfig

        config = ClinicConfig(patients=patients or ClinicConfig().patients, seed=seed)
        _clinic(config, out or Path("demo-clinic"), not leave, quiet, as_json, said)
        return
    from hilum.datasets.phantom.config import PhantomConfig
    from hilum.demo.story import DemoConfig, tell

    out = out or Path("demo")
    told_of = DemoConfig(
        phantom=PhantomConfig(patients=patients or 400, size=size, difficulty=difficulty, seed=seed),
        folds=folds,
        port=port,
        dicom_port=dicom_port,
    )
    summary = tell(told_of, out, stay=not leave, progress=progress(quiet), said=said)
    finish({**summary, "path": str(out)}, as_json=as_json, lines=[f"everything lies in {out}/"])


def _clinic(
    config: "ClinicConfig", out: Path, stay: bool, quiet: bool, as_json: bool, said: Callable[[str], None]
) -> None:
    import os

    from hilum.demo.clinic import tell_clinic

    summary = tell_clinic(config, out, stay=stay, environment=os.environ, progress=progress(quiet), said=said)
    report = out / "clinic.html"
    lines = [f"not as it must be: {failure}" for failure in summary["failures"]]
    lines.append(f"everything lies in {out}/; the page is {report}")
    finish({**summary, "path": str(report)}, as_json=as_json, lines=lines)
    if not summary["passed"]:
        raise typer.Exit(1)
