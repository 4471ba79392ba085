"""Doctor: a line for each thing, and a mend for whatever is not fine."""

import importlib.util
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from hilum.errors import BundleError
from hilum.imaging.codecs import CODECS, WITHOUT_DECODER
from hilum.inference import checkup
from hilum.inference.checkup import Sign, check_up, decoders, disk, extras, speed, sqlite, versions
from hilum.inference.choosing import RUNTIMES, recorded


def test_every_transfer_syntax_has_a_line_and_is_read_back() -> None:
    signs = decoders()
    assert [sign.what for sign in signs] == [*(f"decoder {codec.name}" for codec in CODECS.values()), "no decoder"]
    assert all(sign.state == "ok" for sign in signs), [sign.line for sign in signs]


def test_the_syntaxes_that_nothing_decodes_are_told() -> None:
    from pydicom._uid_dict import UID_dictionary

    moving = ("MPEG", "HEVC", "SMPTE")
    still = {
        uid
        for uid, (name, kind, _, retired, _) in UID_dictionary.items()
        if kind == "Transfer Syntax" and not retired and not any(word in name for word in moving)
    }
    told = {uid for uids in WITHOUT_DECODER.values() for uid in uids}
    assert still <= told | set(CODECS)
    assert not told & set(CODECS)
    assert "HTJ2K, JPEG XL, " in decoders()[-1].found


def test_a_decoder_that_reads_wrongly_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import dataclasses

    from hilum.imaging import codecs

    uid = "1.2.840.10008.1.2.5"
    right = CODECS[uid].decode
    assert right is not None
    wrong = dataclasses.replace(CODECS[uid], decode=lambda frame, form: right(frame, form) ^ 1)
    monkeypatch.setitem(codecs.CODECS, uid, wrong)
    (sign,) = [one for one in decoders() if "RLE" in one.what]
    assert sign.state == "warn"
    assert "differs by" in sign.found
    assert "refused by name" in sign.mend


@pytest.mark.parametrize(
    ("decode", "saying"),
    [
        (
            lambda frame, form: (np.zeros((form.rows, form.columns)) + 4094).astype(form.dtype),
            "differs by 4094 of 4095",
        ),
        (lambda frame, form: 1 // 0, "The JPEG Lossless SV1 pixel data are damaged and can't be decoded."),
    ],
)
def test_a_decoder_of_a_syntax_that_nothing_writes_is_tried(
    monkeypatch: pytest.MonkeyPatch, decode: Callable[..., object], saying: str
) -> None:
    import dataclasses

    from hilum.imaging import codecs

    uid = "1.2.840.10008.1.2.4.70"
    assert next(one for one in decoders() if "SV1" in one.what).found == "reads a known frame"
    monkeypatch.setitem(codecs.CODECS, uid, dataclasses.replace(CODECS[uid], decode=decode))
    (sign,) = [one for one in decoders() if "SV1" in one.what]
    assert (sign.state, saying in sign.found) == ("warn", True)


def test_trying_decoders_writes_nothing_beside(capfd: pytest.CaptureFixture[str]) -> None:
    decoders()
    assert capfd.readouterr() == ("", "")


def test_decoders_are_tried_where_nobody_hears_complaints() -> None:
    """As after ``2>&-``: there is no descriptor 2."""
    said = "from hilum.inference.checkup import decoders; print({one.state for one in decoders()})"
    code = f"import os; os.close(2); {said}"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "{'ok'}\n"


@pytest.mark.parametrize(
    ("module", "saying"),
    [
        ("gdcm", "python-gdcm is not installed"),
        ("imagecodecs", "imagecodecs is not installed, so there is no second decoder"),
    ],
)
def test_without_a_decoder_its_syntaxes_are_limits(monkeypatch: pytest.MonkeyPatch, module: str, saying: str) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *more: None if name == module else find(name, *more))
    limited = [sign.what for sign in decoders() if sign.found == saying]
    assert limited == ["decoder JPEG Extended", "decoder JPEG Lossless", "decoder JPEG Lossless SV1"]


def test_versions_and_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    assert [sign.state for sign in versions()] == ["ok", "ok"]
    monkeypatch.setattr(checkup, "PACKAGES", ("numpy", "no-such-package"))
    assert versions()[1].state == "mend"
    assert "install no-such-package" in versions()[1].mend


def test_an_absent_extra_is_a_limit_with_a_mend(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkup, "EXTRAS", {"train": ("numpy", "no_such_module")})
    (sign,) = extras()
    assert (sign.state, sign.found) == ("warn", "without no_such_module")
    assert sign.mend == "to train here: pip install 'hilum[train]'"


@pytest.mark.parametrize(("version", "state"), [((3, 40, 1), "warn"), ((3, 51, 2), "warn"), ((3, 51, 3), "ok")])
def test_sqlite_is_held_against_the_fixed_version(version: tuple[int, ...], state: str) -> None:
    (sign,) = sqlite(version)
    assert sign.state == state
    assert bool(sign.mend) == (state == "warn")


def test_disk_is_looked_at_where_the_folder_will_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (sign,) = disk(tmp_path / "not" / "yet")
    assert str(tmp_path) in sign.found
    monkeypatch.setattr(checkup, "_LEAST_DISK_GB", 1e9)
    assert disk(tmp_path)[0].state == "warn"


def test_few_processors_are_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkup, "available_cpus", lambda: 1)
    assert checkup.processors()[0].state == "warn"
    monkeypatch.setattr(checkup, "available_cpus", lambda: 2)
    assert checkup.processors()[0].state == "ok"


def test_a_bundle_is_tested_and_timed(bundle_path: Path) -> None:
    signs = {sign.what: sign for sign in speed(bundle_path)}
    assert list(signs) == [
        *("self-test onnxruntime", "runtime onnxruntime", "self-test openvino", "runtime openvino"),
        "choice of runtime",
    ]
    assert {sign.state for sign in signs.values()} == {"ok"}
    for name in ("onnxruntime", "openvino"):
        assert "fp32" in signs[f"runtime {name}"].found
        assert "batch 1" in signs[f"runtime {name}"].found


def test_the_choice_is_recorded_for_auto(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record = tmp_path / "runtime.json"
    monkeypatch.setattr("hilum.inference.choosing.record_path", lambda: record)
    sign = speed(None, record)[-1]
    chosen = recorded(record)
    assert chosen in RUNTIMES
    assert sign.found.startswith(f"{chosen}, ")
    assert f"recorded in {record}, which --runtime auto follows and nothing else does; remove it to undo" in sign.found
    kept = json.loads(record.read_text())
    assert {row["runtime"].split()[0] for row in kept["latencies"]} == {"onnxruntime", "openvino"}
    assert {row["precision"] for row in kept["latencies"]} == {"fp32"}


def test_a_record_elsewhere_is_not_said_to_be_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hilum.inference.choosing.record_path", lambda: tmp_path / "here.json")
    sign = speed(None, tmp_path / "there.json")[-1]
    assert f"recorded in {tmp_path}/there.json, while --runtime auto follows {tmp_path}/here.json" in sign.found


def test_a_second_runtime_that_fails_is_no_reason_to_stop(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def broken(*_: object, **__: object) -> None:
        raise BundleError("No such operator.")

    monkeypatch.setitem(RUNTIMES, "openvino", broken)
    signs = {sign.what: sign for sign in speed(None, tmp_path / "runtime.json")}
    assert (signs["runtime onnxruntime"].state, signs["runtime openvino"].state) == ("ok", "warn")
    assert signs["runtime openvino"].mend == "leave this runtime alone"
    assert not (tmp_path / "runtime.json").exists()


def test_a_damaged_bundle_is_to_be_mended(tmp_path: Path) -> None:
    (tmp_path / "b.hilum").write_bytes(b"x")
    (sign,) = speed(tmp_path / "b.hilum")
    assert sign.state == "mend"
    assert "is damaged or no .hilum file" in sign.found


def test_a_slow_machine_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkup, "_MOST_MS", 0.0)
    assert speed(None)[0].state == "warn"


def test_everything_is_looked_at_once(tmp_path: Path) -> None:
    signs = check_up(tmp_path)
    names = [sign.what for sign in signs]
    assert len(set(names)) == len(names)
    assert {"Python", "packages", "extra train", "processors", "SQLite", "disk", "runtime onnxruntime"} <= set(names)
    assert all(sign.mend for sign in signs if sign.state != "ok")


def test_a_sign_reads_as_one_line() -> None:
    assert Sign(what="a", state="ok", found="b").line == "ok    a: b"
    assert Sign(what="a", state="warn", found="b", mend="c").line == "warn  a: b → c"
