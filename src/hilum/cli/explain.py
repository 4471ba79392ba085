"""``hilum explain``: why films were answered so, as one page."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from hilum.cli.terminal import (
    JsonOption,
    QuietOption,
    RuntimeOption,
    TrustedOption,
    finish,
    progress,
    trusted_keys,
)


def explain(
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help="A .hilum file or a bundle's folder.")],
    files: Annotated[list[Path], typer.Argument(metavar="FILES", help="Films, or folders with films below them.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the page, its pictures and its numbers.")],
    finding: Annotated[
        str | None, typer.Option(help="What to explain.", show_default="each film's likeliest finding beside normal")
    ] = None,
    run: Annotated[
        Path | None, typer.Option(help="The run that made the bundle: adds integrated gradients (extra train).")
    ] = None,
    occlusion: Annotated[bool, typer.Option(help="Hide squares of the film: about 170 passes a film.")] = True,
    style: Annotated[Literal["heat", "contour"], typer.Option(help="Areas in colour, or lines.")] = "heat",
    runtime: RuntimeOption = "onnxruntime",
    trusted: TrustedOption = None,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Explain answers by Grad-CAM of every finding, occlusion and integrated gradients. Not for diagnosis."""
    from hilum.errors import DataError, UsageError
    from hilum.inference.assess import open_bundle
    from hilum.inference.explaining import explain_films
    from hilum.inference.explanation_page import write_page
    from hilum.inference.predict import find_films

    found = list(find_films(files, leave_out=out))
    if not found:
        raise UsageError(f"No film to explain in {', '.join(map(str, files))}. Give films, or folders with films.")
    with open_bundle(bundle, trusted=trusted_keys(trusted), runtime=runtime) as assessor:
        gradients = None
        if run is not None:
            from hilum.runs.explain import RunGradients
            from hilum.runs.run import Run

            gradients = RunGradients(Run.open(run), assessor.info)
        films, refused = explain_films(
            assessor,
            found,
            finding=finding,
            occlude=occlusion,
            gradients=gradients,
            progress=progress(quiet),
        )
        if not films:
            many = len(refused)
            head = "The film can't be explained:" if many == 1 else f"None of {many} films can be explained:"
            raise DataError("\n".join([head, *(f"{one.name}: {one.reason}" for one in refused)]))
        page = write_page(out, assessor, films, refused, style=style)
    summary = {
        "path": str(page),
        "films": len(films),
        "refused": {one.name: one.reason for one in refused},
        "methods": list(films[0].maps),
        "notice": "assistive, not for diagnosis",
    }
    lines = [
        *(f"{film.name}: {film.finding} {film.assessment.probs[film.finding]:.3f}" for film in films),
        *(f"{one.name}: not explained. {one.reason}" for one in refused),
        f"page: {page} (assistive, not for diagnosis)",
    ]
    finish(summary, as_json=as_json, lines=lines)
