"""Property: whatever single byte of a bundle is altered, it never loads as other content."""

import zipfile
from pathlib import Path

import numpy as np
import pytest

from hilum.bundle.archive import zip_bytes
from hilum.bundle.reading import Bundle, read_bundle
from hilum.errors import BundleError

METADATA_SHARE = 0.06
"""Most mutations that may load: bytes of zip headers that say nothing of the content (times, rights, versions)."""


def load(path: Path) -> Bundle | None:
    try:
        return read_bundle(path)
    except BundleError:
        return None


def survivors(whole: bytes, original: Bundle, path: Path, count: int, seed: int) -> int:
    """Mutate single bytes; every bundle that still loads must be the same one. Returns how many loaded."""
    random = np.random.default_rng(seed)
    loaded = 0
    for at, flip in zip(random.integers(0, len(whole), count), random.integers(1, 256, count), strict=True):
        mutated = bytearray(whole)
        mutated[at] ^= flip
        path.write_bytes(mutated)
        found = load(path)
        if found is not None:
            loaded += 1
            assert found.sha256 == original.sha256, at
            assert dict(found.contents) == dict(original.contents), at
    return loaded


def test_a_random_byte_anywhere(tmp_path: Path, bundle_path: Path, bundle: Bundle) -> None:
    """300 bytes of the whole file: most lie in members, where each is found out."""
    loaded = survivors(bundle_path.read_bytes(), bundle, tmp_path / "m.hilum", count=300, seed=0)
    assert loaded <= 300 * METADATA_SHARE


def test_bytes_of_the_zips_own_headers(tmp_path: Path, bundle_path: Path, bundle: Bundle) -> None:
    """The first local header, the first entry of the directory and the end record, byte by byte."""
    whole = bundle_path.read_bytes()
    path = tmp_path / "m.hilum"
    start = whole.index(b"PK\x01\x02")
    random = np.random.default_rng(1)
    for at in [*range(42), *range(start, start + 58), *range(len(whole) - 22, len(whole))]:
        mutated = bytearray(whole)
        mutated[at] ^= int(random.integers(1, 256))
        path.write_bytes(mutated)
        found = load(path)
        assert found is None or (found.sha256, found.contents) == (bundle.sha256, bundle.contents), at


def test_every_byte_of_the_list_of_members(tmp_path: Path, bundle_path: Path, bundle: Bundle) -> None:
    """No byte of members.json can be altered, even when the zip's checksum is made right again."""
    path = tmp_path / "m.hilum"
    contents = {**bundle.contents}
    with zipfile.ZipFile(bundle_path) as archive:
        listed = archive.read("members.json")
    random = np.random.default_rng(2)
    for at in random.permutation(len(listed))[:150]:
        mutated = bytearray(listed)
        mutated[at] ^= int(random.integers(1, 256))
        path.write_bytes(zip_bytes({**contents, "members.json": bytes(mutated)}))
        assert load(path) is None, at


@pytest.mark.long
def test_five_thousand_random_bytes(tmp_path: Path, bundle_path: Path, bundle: Bundle) -> None:
    loaded = survivors(bundle_path.read_bytes(), bundle, tmp_path / "m.hilum", count=5000, seed=3)
    assert loaded <= 5000 * METADATA_SHARE


def test_a_swapped_member_is_refused(tmp_path: Path, bundle: Bundle, bundle_path: Path) -> None:
    """Two members of equal length that change places keep every length and checksum right, but not the hashes."""
    with zipfile.ZipFile(bundle_path) as archive:
        contents = {name: archive.read(name) for name in archive.namelist()}
    one, other = "reference/mc_mean.npy", "reference/probabilities.npy"
    assert len(contents[one]) == len(contents[other])
    contents[one], contents[other] = contents[other], contents[one]
    path = tmp_path / "m.hilum"
    path.write_bytes(zip_bytes(contents))
    with pytest.raises(BundleError, match=f"'{one}' was changed|'{other}' was changed"):
        read_bundle(path)
