"""``hilum predict``: answers for files and folders of films."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from hilum.cli.terminal import (
    JsonOption,
    PrecisionOption,
    QuietOption,
    RuntimeOption,
    TrustedOption,
    counted,
    finish,
    progress,
    trusted_keys,
)


def predict(
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help="A .hilum file or a bundle's folder.")],
    files: Annotated[list[Path], typer.Argument(metavar="FILES", help="Films, or folders with films below them.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the results; run again to go on there.")],
    heatmaps: Annotated[bool, typer.Option(help="Write a heat map (JPEG) of the likeliest abnormal finding.")] = True,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes that decode. [default: processors]")] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="Threads of the runtime. [default: processors]")] = None,
    refuse_unknown: Annotated[
        list[str] | None, typer.Option(metavar="CHECK", help="Don't analyse films where this check can't be judged.")
    ] = None,
    runtime: RuntimeOption = "onnxruntime",
    precision: PrecisionOption = "fp32",
    trusted: TrustedOption = None,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Answer films: label, calibrated probabilities, uncertainty and heat map of each. Assistive, not for diagnosis."""
    from hilum.inference.predict import predict_files

    done = predict_files(
        bundle,
        files,
        out,
        heatmaps=heatmaps,
        workers=workers,
        threads=threads,
        refuse_unknown=refuse_unknown or (),
        trusted=trusted_keys(trusted),
        runtime=runtime,
        precision=precision,
        progress=progress(quiet),
    )
    summary = {
        "files": done.files,
        "answered": done.answered,
        "abstained": done.abstained,
        "not_analysed": done.not_analysed,
        "refused": done.refused,
        "already": done.already,
        "seconds": round(done.seconds, 2),
        "notice": "assistive, not for diagnosis",
        "path": str(done.out),
    }
    lines = [
        f"{counted(done.files, 'file')} in {done.seconds:.1f} s: {done.answered} answered, {done.abstained} abstained, "
        f"{done.not_analysed} not analysed, {done.refused} refused, {done.already} answered before",
        *([f"refused files and reasons: {done.out / 'refused.csv'}"] if done.refused else []),
        f"results: {done.out} (assistive, not for diagnosis)",
    ]
    finish(summary, as_json=as_json, lines=lines)
    if done.all_refused:
        print(
            f"hilum: {counted(done.files, 'file')} and not one that could be read; "
            f"{done.out / 'refused.csv'} says why of each.",
            file=sys.stderr,
        )
        raise typer.Exit(1)
