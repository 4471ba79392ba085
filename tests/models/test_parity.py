"""One graph, three ways to run it: torch, ONNX Runtime and OpenVINO answer alike in fp32, whatever batch and day.

Bounds as promised: probabilities and what is derived from them within 1e-4, heat maps within 1e-3 of the largest value.
"""

import hashlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from tests.models.shipped import SIZE, tiles_of

from hilum.inference.assess import MAX_BATCH
from hilum.inference.openvino_runtime import OpenVinoRuntime
from hilum.inference.runtimes import Answer, OnnxRuntime, Runtime
from hilum.models.explained import OUTPUTS, Explained

OF_THE_LARGEST = ("logits", "cam", "cam_std", "features")
"""Outputs without a scale of their own: their bound is relative to their largest value."""


@pytest.fixture(scope="module")
def explained(shipped: tuple[Explained, bytes]) -> Explained:
    return shipped[0]


@pytest.fixture(scope="module")
def graph(shipped: tuple[Explained, bytes]) -> bytes:
    return shipped[1]


@pytest.fixture(scope="module")
def runtimes(graph: bytes) -> dict[str, Runtime]:
    return {"onnxruntime": OnnxRuntime(graph, 1, size=SIZE), "openvino": OpenVinoRuntime(graph, 1, size=SIZE)}


def torch_answer(explained: Explained, tiles: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
    parts = [tiles[start : start + 50] for start in range(0, len(tiles), 50)]
    with torch.inference_mode():
        answers = [explained(torch.from_numpy(part))._asdict() for part in parts]
    return {name: np.concatenate([answer[name].numpy() for answer in answers]) for name in OUTPUTS}


def run_all(runtime: Runtime, tiles: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
    answers: list[Answer] = [runtime.run(tiles[i : i + MAX_BATCH]) for i in range(0, len(tiles), MAX_BATCH)]
    return {name: np.concatenate([answer[name] for answer in answers]) for name in OUTPUTS}


def assert_alike(explained: Explained, runtimes: dict[str, Runtime], tiles: NDArray[np.uint8]) -> None:
    expected = torch_answer(explained, tiles)
    assert np.ptp(expected["probabilities"][:, 0]) > 0.05  # the films are answered differently, or nothing is compared
    assert expected["cam"].max() > 0
    for runtime in runtimes.values():
        found = run_all(runtime, tiles)
        for name in OUTPUTS:
            bound = 1e-3 * np.abs(expected[name]).max() if name in OF_THE_LARGEST else 1e-4
            assert np.abs(found[name] - expected[name]).max() <= bound, (runtime.name, name)


def test_torch_and_both_runtimes_agree(explained: Explained, runtimes: dict[str, Runtime]) -> None:
    assert_alike(explained, runtimes, tiles_of(20))


@pytest.mark.long
def test_torch_and_both_runtimes_agree_on_a_thousand_films(explained: Explained, runtimes: dict[str, Runtime]) -> None:
    assert_alike(explained, runtimes, tiles_of(1000))


@pytest.mark.parametrize("name", ["onnxruntime", "openvino"])
def test_an_answer_does_not_depend_on_its_batch(runtimes: dict[str, Runtime], name: str) -> None:
    """1 … the most films that are run at once."""
    tiles = tiles_of(MAX_BATCH, seed=3)
    alone = [runtimes[name].run(tiles[i : i + 1]) for i in range(MAX_BATCH)]
    for count in (2, 5, MAX_BATCH):
        together = runtimes[name].run(tiles[:count])
        for output in OUTPUTS:
            expected = np.concatenate([answer[output] for answer in alone[:count]])
            bound = 1e-5 * max(1.0, float(np.abs(expected).max()))
            assert np.abs(together[output] - expected).max() <= bound, (count, output)


@pytest.mark.parametrize("name", ["onnxruntime", "openvino"])
def test_answers_are_the_same_bits_after_a_restart(
    graph: bytes, runtimes: dict[str, Runtime], name: str, tmp_path: Path
) -> None:
    """A second process, a second compilation of the graph: the same digest over all outputs."""
    tiles = tiles_of(4, seed=5)
    (tmp_path / "model.onnx").write_bytes(graph)
    np.save(tmp_path / "tiles.npy", tiles)
    here = digest(runtimes[name].run(tiles))
    code = (
        "import sys, hashlib, numpy as np\n"
        "from pathlib import Path\n"
        "from hilum.inference.choosing import open_runtime\n"
        "folder = Path(sys.argv[1])\n"
        "runtime = open_runtime(sys.argv[2], (folder / 'model.onnx').read_bytes(), 1)\n"
        "answer = runtime.run(np.load(folder / 'tiles.npy'))\n"
        "print(hashlib.sha256(b''.join(values.tobytes() for values in answer.as_mapping().values())).hexdigest())\n"
    )
    done = subprocess.run([sys.executable, "-c", code, tmp_path, name], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == here


def digest(answer: Answer) -> str:
    return hashlib.sha256(b"".join(values.tobytes() for values in answer.as_mapping().values())).hexdigest()
