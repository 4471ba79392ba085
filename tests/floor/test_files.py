"""Atomic files: the old artefact or the new one, never half; also when the process is killed."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hilum.files import home, replacing, replacing_directory, write_json
from hilum.inference.choosing import record_path
from hilum.service.child_process import child_environment


def test_an_error_while_writing_leaves_the_old_file_and_no_litter(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    write_json(path, {"a": 1})
    with pytest.raises(RuntimeError, match="stop"), replacing(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError("stop")
    assert path.read_text() == '{\n  "a": 1\n}\n'
    assert list(tmp_path.iterdir()) == [path]


def test_a_user_without_an_entry_has_no_home_and_a_service_of_theirs_starts_its_children(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert home() == Path.home()

    def unknown(_: int) -> object:
        raise KeyError("uid not found")

    monkeypatch.delenv("HOME")
    monkeypatch.setattr("pwd.getpwuid", unknown)
    assert not home().exists()
    assert child_environment()["HOME"] == str(home())
    assert not record_path().exists()


def test_the_temporary_name_keeps_the_suffix(tmp_path: Path) -> None:
    with replacing(tmp_path / "figure.png") as temporary:
        assert temporary.suffix == ".png"
        temporary.write_bytes(b"x")
    assert (tmp_path / "figure.png").read_bytes() == b"x"


def test_a_folder_is_replaced_whole(tmp_path: Path) -> None:
    target = tmp_path / "bundle"
    for content in ("one", "two"):
        with replacing_directory(target) as folder:
            (folder / content).write_text(content)
    assert [p.name for p in target.iterdir()] == ["two"]
    with pytest.raises(RuntimeError, match="stop"), replacing_directory(target) as folder:
        (folder / "three").write_text("half")
        raise RuntimeError("stop")
    assert [p.name for p in target.iterdir()] == ["two"]
    assert list(tmp_path.iterdir()) == [target]


def test_kill_nine_while_writing_leaves_a_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    code = (
        "import sys; from pathlib import Path; from hilum.files import write_json\n"
        "n = 0\n"
        "while True:\n"
        "    write_json(Path(sys.argv[1]), {'n': n, 'pad': 'x' * 200_000, 'end': n}); n += 1\n"
    )
    import json

    for delay in (0.05, 0.11, 0.17):
        process = subprocess.Popen([sys.executable, "-c", code, str(path)])
        while not path.exists():
            time.sleep(0.01)
        time.sleep(delay)
        process.send_signal(signal.SIGKILL)
        process.wait()
        state = json.loads(path.read_text())
        assert state["n"] == state["end"]
