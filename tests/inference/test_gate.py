"""The gate of a lower precision: it counts and pairs films, refuses by name, and predict and serve ask for it.

bf16 is stood in for by a runtime that disturbs the answers as it is told, so nothing depends on the processor.
"""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from tests.bundle.small import FINDINGS, small_graph
from tests.inference.films import film, lateral
from typer.testing import CliRunner

from hilum.bundle.reading import Bundle, read_bundle
from hilum.cli.verbs import app
from hilum.datasets.manifest import Manifest
from hilum.errors import DataError, UsageError
from hilum.inference import choosing, gate, openvino_runtime, precision
from hilum.inference.assess import open_bundle
from hilum.inference.gate import run_gate
from hilum.inference.precision import GateRecord, check_gate, open_in, record_gate, recorded_gates
from hilum.inference.runtimes import Answer, OnnxRuntime, answer_of
from hilum.provenance import sha256_bytes


class Disturbed:
    """ONNX Runtime with other outputs: what a lower precision does to answers, and it says so."""

    name, precision = "disturbed 1", "bf16"

    def __init__(self, change: Callable[[dict[str, np.ndarray]], None] = lambda outputs: None) -> None:
        self._runtime, self._change, self.threads = OnnxRuntime(small_graph(), 1), change, 1

    def run(self, tiles: np.ndarray) -> Answer:
        outputs = {name: values.copy() for name, values in self._runtime.run(tiles).as_mapping().items()}
        self._change(outputs)
        return answer_of(outputs)


@pytest.fixture(scope="module")
def bundle(bundle_path: Path) -> Bundle:
    return read_bundle(bundle_path)


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    """18 films of 18 patients, labels arbitrary; further ones without a label, lateral, locked, missing, changed."""
    folder = tmp_path_factory.mktemp("films")
    rows: list[dict[str, str]] = []

    def add(name: str, content: bytes, label: str, part: str = "", film_id: str = "") -> None:
        (folder / name).write_bytes(content)
        digest = film_id or sha256_bytes(content)
        rows.append({"path": name, "film_id": digest, "patient_id": name, "label": label, "part": part})

    for i in range(18):
        add(f"{i}.dcm", film(i), FINDINGS[i % 3])
    add("unlabelled.dcm", film(20), "")
    add("lateral.dcm", lateral(21), "normal")
    add("locked.dcm", film(22), "normal", part="test")
    add("changed.dcm", film(23), "normal", film_id="0" * 64)
    add("missing.dcm", film(24), "normal")
    (folder / "missing.dcm").unlink()
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    return Manifest.from_columns(columns, folder=folder)


@pytest.fixture(autouse=True)
def in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Films are read in this process: starting a child takes longer than all of them."""

    class Here:
        def __init__(self, *_: object, **__: object) -> None: ...

        def __enter__(self) -> "Here":
            return self

        def __exit__(self, *_: object) -> None: ...

        def map(self, function: Callable[..., object], items: list[tuple[object, ...]]) -> Iterator[tuple[int, object]]:
            return iter([(i, function(*item)) for i, item in reversed(list(enumerate(items)))])

    monkeypatch.setattr(gate, "Sandbox", Here)


def gated(bundle: Bundle, films: Manifest, change: Callable[[dict[str, np.ndarray]], None] | None = None) -> gate.Gate:
    low = Disturbed(change) if change else Disturbed()
    return run_gate(bundle, films, usual=[OnnxRuntime(bundle.model, 1)], low=low, repeats=3)


def test_films_that_cant_be_compared_are_counted_by_reason(bundle: Bundle, films: Manifest) -> None:
    found = gated(bundle, films)
    assert (found.films, found.patients) == (18, 18)
    assert found.left_out == {
        "of the locked test part": 1,
        "without a label": 1,
        "that can't be read": 2,
        "that the bundle's gate refuses": 1,
    }
    assert found.shift == {"largest": 0, "mean": 0, "other_label": 0}
    assert "left out: 1 of the locked test part; 1 without a label" in found.lines()[0]


def test_answers_of_a_film_are_paired_with_its_own_label(bundle: Bundle, films: Manifest) -> None:
    """The same runtime on the films one by one gives the AUROC that the gate reports, whatever order films come in."""
    from hilum.evaluation.delong import midranks
    from hilum.inference.preparing import prepare_film

    runtime, labels = OnnxRuntime(bundle.model, 1), np.array([FINDINGS[i % 3] for i in range(18)])
    tiles = [prepare_film(path, bundle.info.preprocessing, bundle.info.gate).tile for path in films.film_paths()[:18]]
    scores = np.array([runtime.run(tile[None, None]).probabilities[0, 1] for tile in tiles], np.float64)
    positive = labels == "pneumonia"
    m, n = positive.sum(), (~positive).sum()
    expected = (midranks(scores)[positive].sum() - m * (m + 1) / 2) / (m * n)
    check = next(one for one in gated(bundle, films).checks if one.what == "AUROC of pneumonia")
    assert check.numbers["fp32"] == pytest.approx(expected)


def test_too_few_films_show_nothing_and_the_number_that_would_is_said(bundle: Bundle, films: Manifest) -> None:
    """18 films in identical order: none of 6 × 12 pairs changed places, which leaves 3 / 72 open."""
    found = gated(bundle, films)
    check = found.checks[0]
    assert check.numbers["drop"] == 0
    assert check.numbers["drop_high"] == pytest.approx(3 / 72)
    assert check.films_needed == np.ceil(18 * np.sqrt(3 / 72 / 0.002)) == found.films_needed
    assert "on 18 films; about 83 such films would show whether it does." in check.refusal
    assert not found.passed
    assert found.lines()[-1] == "bf16 is refused for this bundle on this machine; fp32 answers as before"


def test_what_it_was_trained_on_is_no_validation(bundle: Bundle, films: Manifest) -> None:
    fingerprints = {**bundle.info.fingerprints, "films": films.fingerprint}
    info = bundle.info.__class__(
        **{name: getattr(bundle.info, name) for name in bundle.info.__slots__} | {"fingerprints": fingerprints}
    )
    trained = Bundle(**{name: getattr(bundle, name) for name in bundle.__slots__} | {"info": info})
    with pytest.raises(DataError, match="are those that the bundle was trained on, which it ranks too easily"):
        gated(trained, films)


def test_no_film_to_compare_says_why(bundle: Bundle, films: Manifest) -> None:
    with pytest.raises(DataError, match=r"No film can be compared \(1 of the locked test part; 2 that can't be read\)"):
        gated(bundle, films.select([20, 21, 22]))


def kept(sha256: str, **changes: object) -> GateRecord:
    values: dict[str, object] = {
        "bundle": sha256,
        "name": "small 1.0",
        "precision": "bf16",
        "runtime": "openvino 1",
        "machine": choosing.machine(),
        "processor": "some",
        "films": 400,
        "manifest": "0" * 64,
        "speed": 1.6,
        "refusals": (),
        "gated_at": "2026-11-26T12:00:00Z",
    }
    return GateRecord(**(values | changes))  # type: ignore[arg-type]


def test_bf16_is_refused_until_a_gate_passed_for_this_bundle_and_machine(tmp_path: Path) -> None:
    path, ours = tmp_path / "precision.json", "a" * 64
    check_gate(ours, "fp32", path)
    with pytest.raises(UsageError, match="bf16 was not gated for this bundle on this machine: run hilum bundle gate"):
        check_gate(ours, "bf16", path)
    record_gate(kept("b" * 64), path)
    with pytest.raises(UsageError, match="was not gated for this bundle"):
        check_gate(ours, "bf16", path)
    record_gate(kept(ours, machine="another"), path)
    with pytest.raises(UsageError, match="on another processor, number of processors or version of a runtime"):
        check_gate(ours, "bf16", path)
    record_gate(kept(ours, refusals=("Heat maps differ.", "It is slow.")), path)
    with pytest.raises(UsageError, match="refused for this bundle at 2026-11-26T12:00:00Z: Heat maps differ"):
        check_gate(ours, "bf16", path)
    record_gate(kept(ours), path)
    check_gate(ours, "bf16", path)
    assert len(recorded_gates(path)) == 3


def test_a_record_that_is_none_is_said(tmp_path: Path) -> None:
    (tmp_path / "precision.json").write_text('{"gates": 3}')
    with pytest.raises(UsageError, match="precision.json is no record of precision gates. Remove it"):
        recorded_gates(tmp_path / "precision.json")


def test_a_gated_bundle_opens_in_bf16_by_openvino_alone(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "precision.json"
    asked: list[str] = []

    def stand_in(model: bytes, threads: int | None, *, size: int, precision: str) -> Disturbed:
        asked.append(precision)
        return Disturbed()

    monkeypatch.setattr(precision, "OpenVinoRuntime", stand_in)
    with pytest.raises(UsageError, match="onnxruntime has convolutions in fp32 alone: add --runtime openvino for bf16"):
        open_in(bundle, 1, precision="bf16", record=path)
    with pytest.raises(UsageError, match="was not gated"):
        open_in(bundle, 1, runtime="openvino", precision="bf16", record=path)
    with pytest.raises(UsageError, match="'bf61' is not a precision. Did you mean 'bf16'"):
        open_in(bundle, 1, runtime="openvino", precision="bf61", record=path)
    assert asked == []
    record_gate(kept(bundle.sha256), path)
    assert open_in(bundle, 1, runtime="openvino", precision="bf16", record=path).precision == "bf16"
    assert asked == ["bf16"]
    assert isinstance(open_in(bundle, 1, record=path), OnnxRuntime)


def test_predict_refuses_bf16_in_one_sentence(
    bundle_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    (tmp_path / "a.dcm").write_bytes(film(1))
    arguments = ["predict", str(bundle_path), str(tmp_path / "a.dcm"), "--out", str(tmp_path / "out"), "-q"]
    done = CliRunner().invoke(app, [*arguments, "--runtime", "openvino", "--precision", "bf16"])
    assert isinstance(done.exception, UsageError)
    assert "bf16 was not gated for this bundle on this machine" in str(done.exception)
    assert not (tmp_path / "out").exists()


def test_the_service_refuses_bf16_too(bundle_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from hilum.service.bundled import open_bundled
    from hilum.service.settings import read_settings

    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    settings = read_settings(bundle=bundle_path, data=tmp_path / "data", runtime="openvino", precision="bf16")
    with pytest.raises(UsageError, match="bf16 was not gated"), open_bundled(settings):
        pass


def test_the_verb_reports_records_and_fails_when_refused(
    bundle_path: Path, films: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gate, "open_low", lambda bundle, threads, precision: Disturbed())
    record, manifest = tmp_path / "precision.json", films.write(films.folder / "validation.parquet")
    arguments = [
        "bundle",
        "gate",
        str(bundle_path),
        "--films",
        str(manifest),
        "--record",
        str(record),
        "--threads",
        "1",
    ]
    done = CliRunner().invoke(app, [*arguments, "--repeats", "3", "--json", "-q"], catch_exceptions=False)
    assert done.exit_code == 1
    summary = json.loads(done.stdout.splitlines()[-1])
    assert (summary["passed"], summary["films"], summary["precision"]) == (False, 18, "bf16")
    assert "refused: AUROC of normal may drop by more than 0.002" in done.stderr
    (one,) = recorded_gates(record)
    assert one.bundle == read_bundle(bundle_path).sha256
    assert one.refusals[0].startswith("AUROC of normal may drop")
    with pytest.raises(UsageError, match="'int8' can't be gated. Give bf16"):
        CliRunner().invoke(app, [*arguments, "--precision", "int8"], catch_exceptions=False)


def test_the_real_thing_is_gated_where_the_processor_has_it(bundle: Bundle, films: Manifest) -> None:
    if not openvino_runtime.has_bf16():
        pytest.skip("this processor has no bf16 products")
    found = run_gate(bundle, films, threads=1, repeats=3)
    assert found.runtimes[-1].startswith("openvino ")
    assert 0 < found.shift["largest"] < 0.05
    maps = next(one for one in found.checks if one.what == "heat maps")
    assert 0.9 < (maps.numbers["first_percentile"] or 0) < 1


def test_fp32_stays_the_default(bundle_path: Path) -> None:
    with open_bundle(bundle_path, 1) as assessor:
        assert assessor.runtime.precision == "fp32"
