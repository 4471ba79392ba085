"""``hilum demo``: the whole way in one command."""

from pathlib import Path
from typing import Annotated

import typer

from hilum.cli.terminal import JsonOption, QuietOption, finish, progress


def demo(
    out: Annotated[Path, typer.Option(help="Folder of everything; what is finished there is kept.")] = Path("demo"),
    leave: Annotated[bool, typer.Option("--exit", help="Stop the service after the story.")] = False,
    patients: Annotated[int, typer.Option(min=60, help="Synthetic patients.")] = 400,
    size: Annotated[int, typer.Option(min=128, help="Rows of a film.")] = 1024,
    difficulty: Annotated[float, typer.Option(help="How faint lesions are: 0.5 plain, 2 hard.")] = 1.0,
    folds: Annotated[int, typer.Option(min=1, help="Members of the ensemble.")] = 5,
    seed: Annotated[int, typer.Option(min=0, help="Seed of all chance.")] = 0,
    port: Annotated[int, typer.Option(help="Port of REST and page; 0: a free one.")] = 8042,
    dicom_port: Annotated[int, typer.Option(help="Port of the DICOM listener; 0: a free one.")] = 11112,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """From synthetic films to an answer in the reading room: draw, train, test, serve, send, read back."""
    import sys

    from hilum.datasets.phantom.config import PhantomConfig
    from hilum.demo.story import DemoConfig, tell

    config = DemoConfig(
        phantom=PhantomConfig(patients=patients, size=size, difficulty=difficulty, seed=seed),
        folds=folds,
        port=port,
        dicom_port=dicom_port,
    )
    # Standard output's last line is the JSON, when it is asked for; the story goes beside it.
    told = sys.stderr if as_json else sys.stdout
    summary = tell(
        config, out, stay=not leave, progress=progress(quiet), said=lambda line: print(line, file=told, flush=True)
    )
    finish({**summary, "path": str(out)}, as_json=as_json, lines=[f"everything lies in {out}/"])
