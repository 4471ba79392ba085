"""For the tests of data sets: small films (smooth random fields, all different, that show nothing), and a server."""

import functools
import http.server
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from hilum.arrays import Array
from hilum.datasets.manifest import Manifest


@pytest.fixture
def field() -> Callable[..., Array]:
    """``field(seed, side=96)``: uint16 [side, side] with structure of several sizes, as a film has."""

    def make(seed: int, side: int = 96) -> Array:
        rng = np.random.default_rng(seed)
        sizes = [side / 64, side / 32, side / 16, side / 8]
        noise = sum(ndimage.gaussian_filter(rng.normal(size=(side, side)), size) * size for size in sizes)
        return ((noise - noise.min()) / np.ptp(noise) * 65535).astype(np.uint16)

    return make


@pytest.fixture
def save_png(tmp_path: Path, field: Callable[..., Array]) -> Callable[[str, int], Path]:
    """``save_png("normal/a.png", seed)``: write a field below tmp_path."""

    def save(name: str, seed: int) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((field(seed) // 257).astype(np.uint8)).save(path)
        return path

    return save


@pytest.fixture
def films_of(tmp_path: Path) -> Callable[..., Manifest]:
    """``films_of(n, **columns)``: a manifest of n films that were never on disk, a patient each unless told."""

    def make(n: int, **columns: Any) -> Manifest:
        told = {
            "path": [f"{i}.png" for i in range(n)],
            "patient_id": [f"p{i}" for i in range(n)],
            "film_id": [f"{i:064x}" for i in range(n)],
        }
        return Manifest.from_columns({**told, **columns}, folder=tmp_path)

    return make


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Serves a folder and logs nothing."""

    def log_message(self, format: str, *args: object) -> None:
        return


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """(address, folder that it serves)."""
    folder = tmp_path / "published"
    folder.mkdir()
    served = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder)))
    thread = threading.Thread(target=served.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{served.server_port}/", folder
    served.shutdown()
    thread.join()
    served.server_close()
