"""What every verb shares: errors as one clear sentence, the closing summary, and ``--json``."""

import errno
import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hilum.errors import HilumError, MissingExtra, UsageError

if TYPE_CHECKING:
    from hilum.keys import PublicKey
    from hilum.progress import Progress

JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object as the last line of standard output.")]
RuntimeOption = Annotated[
    str,
    typer.Option(
        metavar="NAME",
        help="onnxruntime, onnxruntime-cuda, openvino, or auto: what hilum doctor recorded for this machine.",
    ),
]
PrecisionOption = Annotated[
    str,
    typer.Option(metavar="NAME", help="fp32, or bf16 where hilum bundle gate let it pass for this bundle and machine."),
]
PASSPHRASE = "HILUM_KEY_PASSPHRASE"
"""Variable of the environment that holds a private key's passphrase: arguments are visible to other users."""

API_KEY, API_KEY_BEFORE = "HILUM_API_KEY", "HILUM_KEY"
"""Variable of the environment that holds a key of a running service, and its former name."""

TrustedOption = Annotated[
    list[Path] | None,
    typer.Option(
        "--trusted",
        metavar="KEY.pub",
        help="Refuse the bundle unless this public key signed it; may be given several times. [HILUM_TRUSTED_KEYS]",
    ),
]
ServiceAuthorities = Annotated[
    Path | None,
    typer.Option("--ca", envvar="HILUM_CA", help="PEM file of who may have signed the service's certificate."),
]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="No progress bars.")]


def progress(quiet: bool) -> "Progress":
    """Progress for this terminal."""
    from hilum.progress import for_terminal

    return for_terminal(quiet=quiet)


def trusted_keys(given: Sequence[Path] | None) -> "tuple[PublicKey, ...]":
    """Keys of ``--trusted``, else of ``HILUM_TRUSTED_KEYS`` (files between commas), else none."""
    from hilum.bundle.signature import read_trusted

    named = os.environ.get("HILUM_TRUSTED_KEYS", "").split(",")
    return read_trusted(given or [Path(name.strip()) for name in named if name.strip()])


def service_key(scope: str) -> str:
    """The key that a verb shows to a running service, of the environment.

    Args:
        scope: what it must allow, for the message.

    Raises:
        UsageError: there is none.
    """
    key = os.environ.get(API_KEY)
    if not key and (key := os.environ.get(API_KEY_BEFORE)):
        print(f"hilum: the key is taken from {API_KEY_BEFORE}, which is {API_KEY} now; rename it.", file=sys.stderr)
    if not key:
        raise UsageError(f"There is no key. Put one with {scope} into {API_KEY} (hilum users add-key makes it).")
    return key


def check_out(out: Path, example: str) -> None:
    """Refuse a file that can't be written before the work begins, which takes long.

    Args:
        out: the file.
        example: what it may be called.

    Raises:
        UsageError: it is a folder, or nothing can be written beside it.
    """
    if out.is_dir():
        raise UsageError(f"--out {out} is a folder. Name a file in it, such as {out / example}.")
    folder = next(parent for parent in out.absolute().parents if parent.exists())
    # Permissions say little (an administrator, a read-only disk), so a file is made and removed.
    if not _takes_files(folder):
        raise UsageError(f"--out {out} can't be written: {folder} takes no files. Choose another folder.")


def _takes_files(folder: Path) -> bool:
    import tempfile

    try:
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


def finish(summary: Mapping[str, Any], *, as_json: bool, lines: Sequence[str] = ()) -> None:
    """Close a verb: the summary for a person, and for a program the same as one JSON line.

    Args:
        summary: what was done; JSON values; ``path`` names what was written.
        as_json: also print the summary as the last line of standard output.
        lines: the summary in words, one sentence or table row a line; made from the summary when empty.
    """
    out = sys.stderr if as_json else sys.stdout
    for line in lines or [f"{key.replace('_', ' ')}: {value}" for key, value in summary.items()]:
        print(line, file=out)
    if as_json:
        print(json.dumps(summary, ensure_ascii=False, allow_nan=False, default=str), flush=True)


def counted(number: int, noun: str) -> str:
    """A number with its noun: ``1 film``, ``2 films``, ``1,200 films``."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> list[str]:
    """Plain text table: columns padded, numbers as given."""
    cells = [[str(cell) for cell in row] for row in [list(header), *rows]]
    widths = [max(len(row[i]) for row in cells) for i in range(len(header))]
    padded = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells]
    return [padded[0], "  ".join("─" * width for width in widths), *padded[1:]]


INTERRUPTED = 130
"""Exit code of a verb that Ctrl-C ended."""


def run(app: typer.Typer) -> None:
    """Run the app; no traceback reaches a person unless ``--debug`` is given.

    Exit codes: 0 done, 1 failed, 2 wrong arguments or settings, 130 interrupted.
    """
    debug = "--debug" in sys.argv
    sys.argv = [argument for argument in sys.argv if argument != "--debug"]
    try:
        app()
    except HilumError as error:
        if debug:
            raise
        print(f"hilum: {error}", file=sys.stderr)
        sys.exit(2 if isinstance(error, UsageError) else 1)
    except SystemExit as ended:
        if ended.code == INTERRUPTED:  # typer makes it of Ctrl-C, without a word
            said = "hilum: interrupted; what was finished is kept, and the same command goes on from there."
            print(said, file=sys.stderr)
        raise
    except BrokenPipeError:
        # The reader went away (hilum … | head): no message, and no second error while closing.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        if debug:
            raise
        print(f"hilum: {_of_the_system(error)}", file=sys.stderr)
        sys.exit(1)
    except ModuleNotFoundError as error:
        if debug:
            raise
        print(f"hilum: {_missing_module(error)}", file=sys.stderr)
        sys.exit(2)
    except Exception as error:
        if debug:
            raise
        kind = type(error).__name__
        print(f"hilum: an internal error ({kind}: {error}). Run again with --debug to see where.", file=sys.stderr)
        sys.exit(1)


MENDS = {
    errno.ENOENT: "Check the path.",
    errno.EACCES: "Ask for the right to it, or name another place.",
    errno.EPERM: "Ask for the right to it, or name another place.",
    errno.EROFS: "Name a place that can be written.",
    errno.EEXIST: "Something else is there: name another place.",
    errno.ENOTDIR: "A file stands where a folder belongs: name another place.",
    errno.EISDIR: "A folder stands where a file belongs: name another.",
    errno.ENOSPC: "Make room, or name a place on another disk.",
    errno.EDQUOT: "Make room, or name a place on another disk.",
}
"""What to do about an error of the system that no verb expected."""


def _of_the_system(error: OSError) -> str:
    where = f" ({error.filename})" if error.filename else ""
    mend = f" {MENDS[error.errno]}" if error.errno in MENDS else ""
    return f"{error.strerror or error}{where}.{mend} Nothing half-written was left."


TRAINING_MODULES = ("torch", "torchvision", "onnx", "onnxscript", "matplotlib", "safetensors", "sklearn")
"""What the ``train`` extra brings."""


def _missing_module(error: ModuleNotFoundError) -> str:
    name = (error.name or "").split(".")[0]
    if name in TRAINING_MODULES:
        return str(MissingExtra("train", f"this verb ({name})"))
    return f"the package {name!r} is not installed. Install hilum again: pip install hilum."
