"""``hilum pretrain``: make the shipped small encoder again, from procedural images alone."""

from pathlib import Path
from typing import Annotated

import typer

from hilum.cli.terminal import JsonOption, QuietOption, check_out, finish, progress, table
from hilum.errors import UsageError


def pretrain(
    out: Annotated[Path, typer.Option(help="Weights to write (.safetensors); the measurements go beside it.")],
    backbone: Annotated[str, typer.Option(help="Network of the zoo.")] = "hilum_small",
    images: Annotated[int, typer.Option(help="Procedural images to learn from.", min=512)] = 32_000,
    epochs: Annotated[int, typer.Option(help="Passes over the images.", min=1)] = 6,
    seed: Annotated[int, typer.Option(help="Seed of images, weights and order.", min=0)] = 0,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Pretrain an encoder on images made by procedure (about 25 minutes on two CPU cores)."""
    check_out(out, "encoder.safetensors")
    if out.suffix != ".safetensors":
        raise UsageError(
            f"--out {out} has another suffix than weights have. Name it {out.with_suffix('.safetensors')}."
        )
    from hilum.runs.pretrain import PretrainConfig, pretrain

    config = PretrainConfig(backbone=backbone, images=images, epochs=epochs, seed=seed)
    summary = pretrain(config, out, progress=progress(quiet))
    rows = [(name, f"{m['accuracy']:.3f}", f"{m['commonest_class']:.3f}") for name, m in summary["held_out"].items()]
    lines = [*table(("factor", "held-out accuracy", "commonest class"), rows), f"written: {out}"]
    finish({**summary, "path": str(out)}, as_json=as_json, lines=lines)
