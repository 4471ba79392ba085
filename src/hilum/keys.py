"""Ed25519 keys (RFC 8032): made once, kept as files, used to sign and to check what was signed.

A private key is a PKCS #8 PEM file that only its owner may read, encrypted when a passphrase is given; beside it lies
the public key (SubjectPublicKeyInfo PEM, suffix ``.pub``), which is what others are told to trust.
"""

import hashlib
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hilum.errors import UsageError
from hilum.files import write_bytes, write_secret

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

PUBLIC_SUFFIX = ".pub"
"""What is added to a private key's file name to name its public key."""

SIGNATURE_BYTES = 64
"""Length of an Ed25519 signature."""

KEY_BYTES = 32
"""Length of an Ed25519 public key."""

_OTHERS = stat.S_IRWXG | stat.S_IRWXO


@dataclass(frozen=True, slots=True, kw_only=True)
class PublicKey:
    """Whose signatures are checked."""

    raw: bytes
    """The 32 bytes of RFC 8032."""

    @property
    def id(self) -> str:
        """The first 16 hex digits of the key's SHA-256: what people compare."""
        return hashlib.sha256(self.raw).hexdigest()[:16]

    def verifies(self, signature: bytes, message: bytes) -> bool:
        """Whether this key's owner signed these very bytes."""
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

        try:
            Ed25519PublicKey.from_public_bytes(self.raw).verify(signature, message)
        except (InvalidSignature, ValueError):
            return False
        return True


class PrivateKey:
    """Who signs. Its bytes never appear in a message or a repr.

    Args:
        key: from the library.
    """

    def __init__(self, key: "Ed25519PrivateKey") -> None:
        self._key = key

    @property
    def public(self) -> PublicKey:
        """What others need to check the signatures."""
        return PublicKey(raw=self._key.public_key().public_bytes_raw())

    def sign(self, message: bytes) -> bytes:
        """64 bytes that only this key's owner can make for this message."""
        return self._key.sign(message)


def create_key(path: Path | str, *, passphrase: str | None = None) -> PublicKey:
    """Make a new key pair: ``path`` (readable by its owner only) and ``path.pub``.

    Args:
        path: of the private key; nothing may be there yet, because a key that is overwritten is lost.
        passphrase: encrypts the file; None leaves it plain, guarded by its permissions alone.

    Returns:
        the public key.

    Raises:
        UsageError: one of the two files exists already, or the passphrase is empty.
    """
    from cryptography.hazmat.primitives import serialization as forms
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    path = Path(path)
    public_path = public_path_of(path)
    if passphrase == "":
        raise UsageError("The passphrase is empty. Give one, or none at all for a key that permissions alone guard.")
    taken = [str(one) for one in (path, public_path) if one.exists()]
    if taken:
        raise UsageError(f"{taken[0]} is there already, and a key is never overwritten. Choose another name.")
    key = Ed25519PrivateKey.generate()
    lock: forms.KeySerializationEncryption = (
        forms.BestAvailableEncryption(passphrase.encode()) if passphrase else forms.NoEncryption()
    )
    write_secret(path, key.private_bytes(forms.Encoding.PEM, forms.PrivateFormat.PKCS8, lock))
    write_bytes(
        public_path,
        key.public_key().public_bytes(forms.Encoding.PEM, forms.PublicFormat.SubjectPublicKeyInfo),
    )
    return PrivateKey(key).public


def public_path_of(path: Path) -> Path:
    """Where :func:`create_key` writes the public key."""
    return path.with_name(path.name + PUBLIC_SUFFIX)


def read_private_key(path: Path | str, *, passphrase: str | None = None) -> PrivateKey:
    """Read a private key.

    Args:
        path: a PKCS #8 PEM file that others can't read.
        passphrase: of an encrypted file.

    Raises:
        UsageError: no such file, others may read it, no Ed25519 private key, or not this passphrase.
    """
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    content = _read(Path(path))
    if Path(path).stat().st_mode & _OTHERS:
        raise UsageError(f"{path} can be read by others than its owner. Make it private: chmod 600 {path}")
    try:
        key = load_pem_private_key(content, passphrase.encode() if passphrase else None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        # The library's text differs from version to version; an encrypted file says so in its first line.
        if b"ENCRYPTED" in content:
            raise UsageError(f"{path} is encrypted, and the passphrase is missing or wrong. Give its own.") from None
        raise UsageError(f"{path} holds no private key. Make one with hilum keys create.") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise UsageError(f"{path} holds a key of another kind, not Ed25519. Make one with hilum keys create.")
    return PrivateKey(key)


def read_public_key(path: Path | str) -> PublicKey:
    """Read a public key.

    Raises:
        UsageError: no such file, or no Ed25519 public key.
    """
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    content = _read(Path(path))
    if b"PRIVATE KEY" in content:
        raise UsageError(f"{path} is a private key. Give the public one, {public_path_of(Path(path))}.")
    try:
        key = load_pem_public_key(content)
    except (ValueError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, Ed25519PublicKey):
        raise UsageError(f"{path} holds no Ed25519 public key. Give the .pub file that hilum keys create wrote.")
    return PublicKey(raw=key.public_bytes_raw())


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UsageError(f"The key {path} can't be read ({error.strerror}). Check the path.") from None
