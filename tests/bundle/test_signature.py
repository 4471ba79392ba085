"""Signatures: without a trusted one a bundle is refused where that is asked, and none can be altered."""

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
from tests.bundle.small import small_bundle

from hilum.bundle.archive import zip_bytes
from hilum.bundle.members import SIGNATURE_MEMBER
from hilum.bundle.reading import Bundle, read_bundle
from hilum.bundle.signature import read_trusted, write_signature
from hilum.bundle.writing import sign_bundle
from hilum.errors import BundleError
from hilum.keys import PrivateKey, create_key, public_path_of, read_private_key


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> tuple[PrivateKey, PrivateKey]:
    """The site's key, and a stranger's."""
    folder = tmp_path_factory.mktemp("keys")
    for name in ("site", "stranger"):
        create_key(folder / name)
    return read_private_key(folder / "site"), read_private_key(folder / "stranger")


@pytest.fixture(scope="module")
def signed(bundle_path: Path, keys: tuple[PrivateKey, PrivateKey], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("signed") / "signed.hilum"
    path.write_bytes(bundle_path.read_bytes())
    sign_bundle(path, keys[0])
    return path


def contents_of(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def with_signature(path: Path, signed: Path, signature: bytes) -> Path:
    path.write_bytes(zip_bytes({**contents_of(signed), SIGNATURE_MEMBER: signature}))
    return path


def test_signing_changes_neither_content_nor_digest(
    signed: Path, bundle: Bundle, keys: tuple[PrivateKey, PrivateKey]
) -> None:
    read = read_bundle(signed, trusted=[keys[0].public])
    assert (read.sha256, read.signer) == (bundle.sha256, keys[0].public)
    assert read.contents == bundle.contents
    assert bundle.signer is None


def test_a_folder_is_signed_as_a_file_is(tmp_path: Path, signed: Path, keys: tuple[PrivateKey, PrivateKey]) -> None:
    folder = small_bundle(tmp_path / "small", files={"scorecard.json": b'{"auroc": 0.8}'})
    assert sign_bundle(folder, keys[0]).signer == keys[0].public
    assert (folder / SIGNATURE_MEMBER).read_bytes() == contents_of(signed)[SIGNATURE_MEMBER]
    assert read_bundle(folder, trusted=[keys[0].public]).signer == keys[0].public


def test_a_second_signature_takes_the_place_of_the_first(
    tmp_path: Path, signed: Path, keys: tuple[PrivateKey, PrivateKey]
) -> None:
    path = tmp_path / "b.hilum"
    path.write_bytes(signed.read_bytes())
    sign_bundle(path, keys[1])
    assert read_bundle(path).signer == keys[1].public


def test_a_signature_that_is_required_and_missing_is_named(
    bundle_path: Path, keys: tuple[PrivateKey, PrivateKey]
) -> None:
    words = f"'signature.json' is missing, but a signature by a trusted key is required here .{keys[0].public.id}"
    with pytest.raises(BundleError, match=words):
        read_bundle(bundle_path, trusted=[keys[0].public])


def test_a_strangers_signature_is_not_enough(signed: Path, keys: tuple[PrivateKey, PrivateKey]) -> None:
    site, stranger = (key.public for key in keys)
    with pytest.raises(BundleError, match=f"is by key {site.id}, which is not trusted here; trusted: {stranger.id}"):
        read_bundle(signed, trusted=[stranger])
    assert read_bundle(signed, trusted=[stranger, site]).signer == site


def test_a_signature_of_other_members_is_refused(
    tmp_path: Path, signed: Path, keys: tuple[PrivateKey, PrivateKey]
) -> None:
    """A model that is swapped, with every hash made right, but not by who holds the key."""
    other = small_bundle(tmp_path / "other.hilum")
    path = with_signature(tmp_path / "b.hilum", other, contents_of(signed)[SIGNATURE_MEMBER])
    for trusted in ([], [keys[0].public]):
        with pytest.raises(BundleError, match="signature.json does not sign these members.*changed or swapped"):
            read_bundle(path, trusted=trusted)
    with pytest.raises(BundleError, match="signature.json does not sign these members"):
        sign_bundle(path, keys[0])


def test_no_byte_of_a_signature_can_be_altered(tmp_path: Path, signed: Path) -> None:
    whole = contents_of(signed)[SIGNATURE_MEMBER]
    random = np.random.default_rng(0)
    for at in random.permutation(len(whole))[:120]:
        mutated = bytearray(whole)
        mutated[at] ^= int(random.integers(1, 256))
        with pytest.raises(BundleError, match="signature.json"):
            read_bundle(with_signature(tmp_path / "b.hilum", signed, bytes(mutated)))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"schema_version": 2}, "signature.json has schema_version 2, but this hilum reads up to 1. Update hilum"),
        ({"format": "other"}, "signature.json has format 'other', but must have 'hilum-signature'"),
        ({"signature": "00"}, "signature.json gives no signature of 64 bytes"),
        ({"signature": 5}, "signature.json gives no signature of 64 bytes"),
        ({"public_key": "zz" * 32}, "signature.json gives no public_key of 32 bytes"),
        ({"key_id": "0" * 16}, "signature.json was changed: it has not the form that signing gives"),
        ({"more": 1}, "signature.json was changed: it has not the form that signing gives"),
    ],
)
def test_a_signature_of_another_form_is_refused(
    tmp_path: Path, signed: Path, changes: dict[str, object], words: str
) -> None:
    table = json.loads(contents_of(signed)[SIGNATURE_MEMBER]) | changes
    text = json.dumps(table, sort_keys=True, separators=(",", ":")) + "\n"
    with pytest.raises(BundleError, match=words):
        read_bundle(with_signature(tmp_path / "b.hilum", signed, text.encode()))


def test_a_signature_of_megabytes_is_not_read(tmp_path: Path, signed: Path) -> None:
    with pytest.raises(BundleError, match=r"'signature.json' has 5,000 bytes, too many"):
        read_bundle(with_signature(tmp_path / "b.hilum", signed, b" " * 5000))


def test_the_list_of_members_may_not_name_the_signature(tmp_path: Path, bundle: Bundle) -> None:
    from hilum.bundle.members import MEMBERS_MEMBER, members_of, write_members

    listed = {**bundle.contents, SIGNATURE_MEMBER: b"{}"}
    path = tmp_path / "b.hilum"
    path.write_bytes(zip_bytes({**listed, MEMBERS_MEMBER: write_members(members_of(listed))}))
    with pytest.raises(BundleError, match="members.json lists signature.json, which is never listed"):
        read_bundle(path)


def test_a_bundle_that_is_not_whole_is_not_signed_and_left_as_it_was(
    tmp_path: Path, bundle_path: Path, keys: tuple[PrivateKey, PrivateKey]
) -> None:
    path = tmp_path / "b.hilum"
    content = bytearray(bundle_path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(BundleError, match="Bundle member"):
        sign_bundle(path, keys[0])
    assert path.read_bytes() == content


def test_the_same_key_and_members_give_the_same_signature(bundle: Bundle, keys: tuple[PrivateKey, PrivateKey]) -> None:
    assert write_signature(bundle.members, keys[0]) == write_signature(bundle.members, keys[0])


def test_trusted_keys_are_read_from_files(tmp_path: Path) -> None:
    key = create_key(tmp_path / "site")
    assert read_trusted([public_path_of(tmp_path / "site")]) == (key,)
