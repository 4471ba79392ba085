"""``hilum data deidentify``: films without names."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hilum.cli.terminal import JsonOption, QuietOption, counted, finish, progress

if TYPE_CHECKING:
    from hilum.imaging.deidentification import Mask

VARIABLE = "HILUM_DEIDENTIFICATION_KEY"


def deidentify(
    source: Annotated[Path, typer.Argument(metavar="IN", help="A folder of DICOM films, or one film.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The folder to make.")],
    key: Annotated[
        Path | None, typer.Option("--key", metavar="FILE", help=f"32 or more random bytes. [{VARIABLE}]")
    ] = None,
    mask: Annotated[
        list[str] | None,
        typer.Option("--mask", metavar="TOP,LEFT,HEIGHT,WIDTH", help="Pixels to blacken; may be given several times."),
    ] = None,
    find_text: Annotated[
        bool, typer.Option("--find-text", help="Look for burnt-in text; blacken what is sure, set apart what isn't.")
    ] = False,
    dates: Annotated[str, typer.Option("--dates", help="remove, or shift back by days that the key gives.")] = "remove",
    keep_patient: Annotated[bool, typer.Option("--keep-patient", help="Keep sex and age (above 89 as 90).")] = False,
    keep_manufacturer: Annotated[
        bool, typer.Option("--keep-manufacturer", help="Keep manufacturer and model; both are free text.")
    ] = False,
    workers: Annotated[int, typer.Option("--workers", min=1, help="Films at a time.")] = 2,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Write films that name nobody (PS3.15 annex E), with a report of each attribute's fate.

    Burnt-in text is looked for with --find-text, and blackened where --mask says; look at the films before you give
    them away. The same key gives the same pseudonyms; keep it secret, or throw it away.
    """
    from hilum.errors import UsageError
    from hilum.imaging.deidentification import Policy
    from hilum.imaging.deidentifying import DETECTION, deidentify_folder, summary_of

    if dates not in ("remove", "shift"):
        raise UsageError(f"--dates is {dates!r}, but must be remove or shift.")
    policy = Policy(
        masks=tuple(_mask(text) for text in mask or ()),
        find_text=find_text,
        shift_dates=dates == "shift",
        keep_patient=keep_patient,
        keep_manufacturer=keep_manufacturer,
    )
    outcome = deidentify_folder(source, out, _key(key), policy, workers=workers, progress=progress(quiet))
    lines = [f"left out: {path}: {reason}" for path, _, reason in outcome.left_out]
    lines += [f"doubtful, a person must look at them: {counted(outcome.doubtful, 'film')}"] if outcome.doubtful else []
    lines += [
        f"{counted(outcome.films, 'film')} of {counted(len(outcome.patients), 'patient')} de-identified, "
        f"{len(outcome.left_out)} left out.",
        DETECTION[find_text],
        f"Written: {out} ({'films, doubtful, text.csv' if find_text else 'films'}, report.json, report.csv)",
    ]
    finish({"path": str(out), **summary_of(outcome, policy)}, as_json=as_json, lines=lines)
    if outcome.left_out:
        raise typer.Exit(1)


def _key(path: Path | None) -> bytes:
    from hilum.errors import UsageError

    if path is None:
        given = os.environ.get(VARIABLE)
        if not given:
            raise UsageError(
                f"A key is missing: give --key FILE or set {VARIABLE}. Make one: head -c 32 /dev/urandom > FILE; "
                "chmod 600 FILE"
            )
        return given.encode()
    return read_secret(path)


def read_secret(path: Path) -> bytes:
    """A file of a key of pseudonyms, which only its owner may read.

    Raises:
        UsageError: it can't be read, or others can read it.
    """
    from hilum.errors import UsageError

    try:
        content = path.read_bytes()
        others = path.stat().st_mode & 0o077
    except OSError as error:
        raise UsageError(f"The key {path} can't be read ({error.strerror}). Check the path.") from None
    if others:
        raise UsageError(f"{path} can be read by others than its owner. Make it private: chmod 600 {path}")
    return content


def _mask(text: str) -> "Mask":
    from hilum.errors import UsageError
    from hilum.imaging.deidentification import Mask

    try:
        top, left, height, width = (int(one) for one in text.split(","))
    except ValueError:
        raise UsageError(f"--mask is {text!r}, but must be four numbers: TOP,LEFT,HEIGHT,WIDTH, in pixels.") from None
    if min(top, left) < 0 or min(height, width) < 1:
        raise UsageError(f"--mask {text} has no pixels. TOP and LEFT count from 0, HEIGHT and WIDTH from 1.")
    return Mask(top=top, left=left, height=height, width=width)
