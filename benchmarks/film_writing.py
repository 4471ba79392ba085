"""What writing a film into its file costs: CPU milliseconds, beside one SHA-256 of the same bytes, taken in turn.

python benchmarks/film_writing.py
"""

import argparse
import hashlib
import io
import json
import os
import time
from collections.abc import Callable

from pydicom.dataset import FileMetaDataset
from pydicom.filebase import DicomFileLike
from pydicom.filewriter import write_file_meta_info

from hilum.service.film_writing import FilmWriter

PIECE_BYTES = 256 * 1024


def head() -> bytes:
    """Preamble and File Meta Information as a sender writes them."""
    meta, out = FileMetaDataset(), io.BytesIO()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = "1.2.840.10008.5.1.4.1.1.1.1", "1.2.3"
    meta.TransferSyntaxUID, meta.SourceApplicationEntityTitle = "1.2.840.10008.1.2.1", "SITE"
    write_file_meta_info(DicomFileLike(out), meta)
    return bytes(128) + b"DICM" + out.getvalue()


def measure(size_mb: int, times: int) -> dict[str, float]:
    """One size of film, by both doors; the least of many."""
    body = b"\x08\x00\x16\x00UI\x04\x001.2\0" + os.urandom(size_mb << 20)
    meta = head()
    film = memoryview(meta + body)
    with open(os.devnull, "wb", buffering=0) as nowhere:

        def write(*pieces: bytes | memoryview) -> None:
            writer = FilmWriter(nowhere, key=None, largest_bytes=1 << 30)
            for piece in pieces:
                writer.write(piece)
            writer.finish()

        acts: dict[str, Callable[[], object]] = {
            "by C-STORE": lambda: write(meta, memoryview(body)),
            "by REST": lambda: write(*(film[at : at + PIECE_BYTES] for at in range(0, len(film), PIECE_BYTES))),
            "SHA-256 of the same bytes": lambda: hashlib.sha256(film).digest(),
        }
        least = dict.fromkeys(acts, float("inf"))
        for _ in range(times):
            for name, act in acts.items():
                started = time.process_time()
                act()
                least[name] = min(least[name], 1000 * (time.process_time() - started))
    return {name: round(value, 2) for name, value in least.items()}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--size-mb", type=int, default=2)
    parser.add_argument("--times", type=int, default=300)
    given = parser.parse_args()
    print(json.dumps(measure(given.size_mb, given.times), indent=2))
