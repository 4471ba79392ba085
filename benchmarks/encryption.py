"""What encryption at rest costs a film: CPU milliseconds of one process, beside hashing and reading the same bytes.

python benchmarks/encryption.py
"""

import argparse
import hashlib
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from hilum.data_keys import Keyring, new_data_key
from hilum.imaging import wire
from hilum.sealing import CHUNK_BYTES, Sealer, new_file_key
from hilum.service.film_files import StoredFilm

SIZES_MB = (2, 18)


def cpu_ms(act: Callable[[], object], times: int) -> float:
    """Median CPU milliseconds, after one run that warms up."""
    act()
    spent = []
    for _ in range(times):
        started = time.process_time()
        act()
        spent.append(1000 * (time.process_time() - started))
    return round(statistics.median(spent), 2)


def measure(size_mb: int, folder: Path, times: int) -> dict[str, float]:
    """One size of film."""
    plain, key = os.urandom(size_mb << 20), new_data_key()
    digest, view = hashlib.sha256(plain).hexdigest(), memoryview(plain)

    def pieces() -> Iterator[bytes]:
        sealer = Sealer(new_file_key(key))
        for at in range(0, len(view), CHUNK_BYTES):
            yield sealer.update(view[at : at + CHUNK_BYTES])
        yield sealer.finish(digest)

    def seal() -> int:
        return sum(map(len, pieces()))

    sealed, readable = folder / "sealed", folder / "plain"
    sealed.write_bytes(b"".join(pieces()))
    readable.write_bytes(plain)
    film = StoredFilm(path=sealed, file_sha256=digest, keys=Keyring([key]))
    return {
        "encrypt, as it comes in": cpu_ms(seal, times),
        "read and decrypt": cpu_ms(film.read_bytes, times),
        "read a plain file": cpu_ms(readable.read_bytes, times),
        "hand the bytes to the sandboxed child": cpu_ms(lambda: wire.encode((len, (plain,))), times),
        "SHA-256 of the same bytes": cpu_ms(lambda: hashlib.sha256(plain).digest(), times),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--times", type=int, default=20)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = {f"{size} MB": measure(size, Path(folder), given.times) for size in SIZES_MB}
    print(json.dumps(found, indent=2))
