"""Keys: made once, private from the first byte, and of use to their owner alone."""

import stat
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key

from hilum.errors import UsageError
from hilum.keys import PrivateKey, PublicKey, create_key, public_path_of, read_private_key, read_public_key


@pytest.fixture
def made(tmp_path: Path) -> Path:
    create_key(tmp_path / "site.key")
    return tmp_path / "site.key"


def test_the_standards_own_example_is_signed_and_checked() -> None:
    """RFC 8032, 7.1, test 2: the message 0x72."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    secret = bytes.fromhex("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb")
    public = PublicKey(raw=bytes.fromhex("3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c"))
    signature = bytes.fromhex(
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
        "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
    )
    key = PrivateKey(Ed25519PrivateKey.from_private_bytes(secret))
    assert key.public == public
    assert key.sign(b"\x72") == signature
    assert public.verifies(signature, b"\x72")
    assert not public.verifies(signature, b"\x73")
    assert not public.verifies(signature[:-1], b"\x72")


def test_a_pair_is_read_back_and_fits(made: Path) -> None:
    private, public = read_private_key(made), read_public_key(public_path_of(made))
    assert private.public == public
    assert public.verifies(private.sign(b"words"), b"words")


def test_the_private_file_is_its_owners_alone(made: Path) -> None:
    assert stat.S_IMODE(made.stat().st_mode) == 0o600
    made.chmod(0o640)
    with pytest.raises(UsageError, match="can be read by others than its owner. Make it private: chmod 600"):
        read_private_key(made)


def test_two_keys_differ(made: Path, tmp_path: Path) -> None:
    other = create_key(tmp_path / "other.key")
    mine = read_public_key(public_path_of(made))
    assert other.id != mine.id
    assert not other.verifies(read_private_key(made).sign(b"words"), b"words")


@pytest.mark.parametrize("taken", ["site.key", "site.key.pub"])
def test_nothing_is_overwritten(tmp_path: Path, taken: str) -> None:
    (tmp_path / taken).write_bytes(b"mine")
    with pytest.raises(UsageError, match=f"{taken} is there already, and a key is never overwritten"):
        create_key(tmp_path / "site.key")
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"mine"]


def test_a_passphrase_locks_the_file(tmp_path: Path) -> None:
    path = tmp_path / "locked.key"
    public = create_key(path, passphrase="long and dull")
    assert read_private_key(path, passphrase="long and dull").public == public
    for wrong in (None, "short"):
        with pytest.raises(UsageError, match="is encrypted, and the passphrase is missing or wrong"):
            read_private_key(path, passphrase=wrong)
    with pytest.raises(UsageError, match="The passphrase is empty"):
        create_key(tmp_path / "empty.key", passphrase="")


def test_what_is_no_key_is_refused_by_name(made: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    with pytest.raises(UsageError, match=r"The key .*other can't be read \(No such file or directory\)"):
        read_public_key(other)
    other.write_bytes(b"words")
    other.chmod(0o600)
    with pytest.raises(UsageError, match="other holds no private key. Make one with hilum keys create"):
        read_private_key(other)
    with pytest.raises(UsageError, match=r"other holds no Ed25519 public key. Give the \.pub file"):
        read_public_key(other)
    with pytest.raises(UsageError, match=r"site.key is a private key. Give the public one, .*site.key.pub"):
        read_public_key(made)
    form = serialization.PrivateFormat.PKCS8
    key = generate_private_key(SECP256R1())
    other.write_bytes(key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()))
    with pytest.raises(UsageError, match="other holds a key of another kind, not Ed25519"):
        read_private_key(other)
