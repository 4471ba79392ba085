"""What a person sees at the terminal: one sentence instead of a traceback, and JSON on the last line when asked."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from hilum.cli import main

Done = subprocess.CompletedProcess[str]


def hilum(*arguments: str, cwd: Path | None = None) -> Done:
    command = [sys.executable, "-m", "hilum", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=240, check=False, cwd=cwd)


@pytest.fixture
def hilum_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Done]:
    """As :func:`hilum` in ``tmp_path``, but in this process: for verbs that load torch, which it has already."""

    def run(*arguments: str) -> Done:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", ["hilum", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        return subprocess.CompletedProcess(arguments, int(ended.value.code or 0), *capsys.readouterr())

    return run


def test_help_names_every_verb() -> None:
    done = hilum("--help")
    assert done.returncode == 0
    for verb in ("demo", "data", "train", "evaluate", "bundle", "predict", "serve", "models", "doctor", "pretrain"):
        assert f"  {verb} " in done.stdout
    assert "not a medical device" in done.stdout


def test_help_loads_no_room() -> None:
    code = (
        "import sys\nfrom hilum.cli.verbs import app\n"
        "rooms = ('torch', 'numpy', 'pydicom', 'fastapi', 'onnxruntime', 'sqlalchemy', 'rich')\n"
        "print([name for name in rooms if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=240, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("evaluate", "nowhere"), "nowhere holds no finished run: result.json is missing. Run hilum train"),
        (("train", "none.parquet", "--out", "r"), "none.parquet is not a file. Make a manifest with hilum data import"),
        (("bundle", "verify", "none.hilum"), "none.hilum"),
        (("serve", "none.hilum", "--port", "0", "--no-dicom"), "none.hilum"),
    ],
)
def test_a_wrong_argument_gets_one_sentence_and_no_traceback(
    arguments: tuple[str, ...], sentence: str, tmp_path: Path
) -> None:
    done = hilum(*arguments, cwd=tmp_path)
    assert done.returncode in (1, 2)
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr + done.stdout


def test_a_name_that_is_none_gets_one_sentence_with_the_nearest(hilum_here: Callable[..., Done]) -> None:
    done = hilum_here("models", "show", "resnet19")
    assert done.returncode in (1, 2)
    assert "Did you mean 'resnet1" in done.stderr
    assert "Traceback" not in done.stderr + done.stdout


def test_an_interrupted_verb_says_what_becomes_of_what_was_finished() -> None:
    code = (
        "import signal, typer\nfrom hilum.cli.terminal import run\napp = typer.Typer()\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "@app.command()\ndef work() -> None:\n    signal.raise_signal(signal.SIGINT)\n"
        "run(app)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 130
    sentence = "hilum: interrupted; what was finished is kept, and the same command goes on from there."
    assert done.stderr.strip() == sentence


def test_debug_shows_where(tmp_path: Path) -> None:
    done = hilum("--debug", "evaluate", "nowhere", cwd=tmp_path)
    assert "Traceback" in done.stderr
    assert "RunError" in done.stderr


def test_json_is_the_last_line_of_standard_output(hilum_here: Callable[..., Done]) -> None:
    done = hilum_here("models", "list", "--json")
    assert done.returncode == 0
    assert json.loads(done.stdout.splitlines()[-1])


def test_an_internal_error_is_a_sentence_too() -> None:
    code = (
        "import typer\nfrom hilum.cli.terminal import run\napp = typer.Typer()\n"
        "@app.command()\ndef fail() -> None:\n    raise KeyError('x')\nrun(app)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 1
    assert done.stderr.strip() == "hilum: an internal error (KeyError: 'x'). Run again with --debug to see where."


def test_a_full_disk_is_a_sentence() -> None:
    code = (
        "import typer\nfrom hilum.cli.terminal import run\napp = typer.Typer()\n"
        "@app.command()\ndef fail() -> None:\n    raise OSError(28, 'No space left on device', '/data/x')\nrun(app)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=240, check=False)
    mend = "Make room, or name a place on another disk."
    assert done.stderr.strip() == f"hilum: No space left on device (/data/x). {mend} Nothing half-written was left."


def test_a_file_where_a_folder_belongs_is_a_sentence_with_the_mend(
    hilum_here: Callable[..., Done], tmp_path: Path
) -> None:
    (tmp_path / "there").touch()
    done = hilum_here("study", "atlas", "--out", "there")
    assert done.returncode == 1
    assert done.stderr.strip() == (
        "hilum: File exists (there). Something else is there: name another place. Nothing half-written was left."
    )


def test_a_summary_without_lines_is_printed_from_its_values() -> None:
    code = "from hilum.cli.terminal import finish, table\nfinish({'path': 'x', 'films_read': 3}, as_json=True)\n"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=240, check=True)
    assert json.loads(done.stdout) == {"path": "x", "films_read": 3}
    assert done.stderr.splitlines() == ["path: x", "films read: 3"]
