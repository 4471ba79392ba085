"""``pip install .`` without extras serves a bundle and brings no torch."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.bundle.small import small_bundle
from tests.inference.films import film

ROOT = Path(__file__).parents[2]

TRAINING = ("torch", "torchvision", "onnx", "matplotlib", "sklearn", "safetensors")


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Python of an environment that holds the package and nothing but what it asks for."""
    folder = tmp_path_factory.mktemp("plain")
    uv = [sys.executable, "-m", "uv", "--quiet"]
    subprocess.run([*uv, "venv", "--python", sys.executable, str(folder / "venv")], check=True)
    python = folder / "venv" / "bin" / "python"
    constraint = ["--constraint", str(ROOT / "requirements.lock"), "--no-verify-hashes"]
    subprocess.run([*uv, "pip", "install", "--python", str(python), *constraint, str(ROOT)], check=True)
    return python


@contextlib.contextmanager
def served(python: Path, bundle: Path, data: Path) -> Iterator[tuple[str, float]]:
    """Address of a service on a bundle, and the seconds until it said that it is ready."""
    started = time.monotonic()
    command = [
        str(python),
        "-m",
        "hilum",
        "serve",
        str(bundle),
        "--port",
        "0",
        "--dicom-port",
        "0",
        "--data",
        str(data),
    ]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        try:
            assert process.stdout is not None
            lines = []
            for line in process.stdout:
                lines.append(line)
                if line.startswith("Ready"):
                    break
            assert any(line.startswith("Ready") for line in lines), lines
            url = next(line for line in lines if line.startswith("Page")).split()[3].rstrip("/")
            yield url, time.monotonic() - started
        finally:
            process.send_signal(signal.SIGTERM)
            process.stdout.read()
            assert process.wait(timeout=240) == 0


@pytest.mark.system
def test_no_training_package_is_installed(plain: Path) -> None:
    code = f"from importlib.util import find_spec; print([n for n in {TRAINING!r} if find_spec(n)])"
    done = subprocess.run([str(plain), "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.system
def test_it_serves_a_bundle(plain: Path, tmp_path: Path) -> None:
    bundle = small_bundle(tmp_path / "small.hilum")
    hilum, where = [str(plain), "-m", "hilum"], ["--data", str(tmp_path / "data"), "--json"]
    user = [*hilum, "users", "add", "ada", "--role", "reviewer", "--no-password", *where]
    subprocess.run(user, check=True, capture_output=True)
    made = subprocess.run([*hilum, "users", "add-key", "ada", *where], check=True, capture_output=True, text=True)
    key = json.loads(made.stdout.splitlines()[-1])["key"]
    with served(plain, bundle, tmp_path / "data") as (url, _):
        headers = {"Content-Type": "application/dicom", "Authorization": f"Bearer {key}"}
        request = urllib.request.Request(f"{url}/api/v1/studies?wait=60", data=film(1), headers=headers, method="POST")
        with urllib.request.urlopen(request, timeout=240) as reply:
            answer = json.load(reply)
    assert answer["state"] == "answered"
    assert set(answer["answer"]["probabilities"]) == {"normal", "pneumonia", "covid-19"}


@pytest.mark.system
def test_training_says_which_extra_it_needs(plain: Path, tmp_path: Path) -> None:
    command = [str(plain), "-m", "hilum", "pretrain", "--out", str(tmp_path / "encoder.safetensors")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "pip install 'hilum[train]'" in done.stderr
    assert "Traceback" not in done.stderr
