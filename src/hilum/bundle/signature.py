"""Who vouches for a bundle: one Ed25519 signature (RFC 8032) over the list of its members' hashes.

``signature.json`` stands beside ``members.json`` and is the one member that the list does not name. It is part of no
digest: signing a bundle changes neither its content nor its name.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from hilum.bundle.members import AGAIN, SIGNATURE_MEMBER, Member, write_members
from hilum.bundle.schema import check_schema, parse_json
from hilum.config import canonical_json
from hilum.errors import BundleError
from hilum.keys import KEY_BYTES, SIGNATURE_BYTES, PrivateKey, PublicKey, read_public_key

FORMAT = "hilum-signature"
SCHEMA_VERSION = 1
"""Version of ``signature.json``; a reader refuses a newer one."""

MAX_BYTES = 4096
"""Most bytes of ``signature.json`` that are read."""

_PURPOSE = b"hilum bundle members, version 1\n"
"""Goes before what is signed, so that a signature made for something else with the same key never fits a bundle."""


def signed_bytes(members: Mapping[str, Member]) -> bytes:
    """What is signed: a line that says what for, then ``members.json`` byte for byte."""
    return _PURPOSE + write_members(members)


def write_signature(members: Mapping[str, Member], key: PrivateKey) -> bytes:
    """``signature.json``: canonical, and the same whenever the same key signs the same members (RFC 8032, 5.1.6)."""
    return _written(key.public, key.sign(signed_bytes(members)))


def check_signature(content: bytes, members: Mapping[str, Member]) -> PublicKey:
    """Whose valid signature this is; whether that key is trusted is another question, see :func:`check_trusted`.

    Raises:
        BundleError: not the form that :func:`write_signature` gives, a newer schema, or not a signature of these
            members.
    """
    table = parse_json(content, SIGNATURE_MEMBER)
    if table.get("format") != FORMAT:
        raise BundleError(f"{SIGNATURE_MEMBER} has format {table.get('format')!r}, but must have {FORMAT!r}. {AGAIN}")
    check_schema(table.get("schema_version"), SIGNATURE_MEMBER, SCHEMA_VERSION)
    key = PublicKey(raw=_hex(table.get("public_key"), "public_key", KEY_BYTES))
    signature = _hex(table.get("signature"), "signature", SIGNATURE_BYTES)
    # Comparing the bytes also refuses unknown keys, spaces and another key id.
    if _written(key, signature) != content:
        raise BundleError(f"{SIGNATURE_MEMBER} was changed: it has not the form that signing gives. {AGAIN}")
    if not key.verifies(signature, signed_bytes(members)):
        raise BundleError(
            f"{SIGNATURE_MEMBER} does not sign these members: it, or the list of members, was changed or swapped. "
            f"{AGAIN}"
        )
    return key


def check_trusted(signer: PublicKey | None, trusted: Sequence[PublicKey]) -> None:
    """Refuse a bundle that nobody trusted vouches for; without trusted keys nothing is asked.

    Raises:
        BundleError: there are trusted keys, and no signature, or one by another key.
    """
    if not trusted:
        return
    ids = ", ".join(key.id for key in trusted)
    if signer is None:
        raise BundleError(
            f"Bundle member {SIGNATURE_MEMBER!r} is missing, but a signature by a trusted key is required here "
            f"({ids}). Get the signed bundle, or have it signed with hilum bundle sign."
        )
    if signer not in trusted:
        raise BundleError(
            f"{SIGNATURE_MEMBER} is by key {signer.id}, which is not trusted here; trusted: {ids}. "
            "Get the bundle from who holds a trusted key; don't use this copy."
        )


def read_trusted(paths: Sequence[Path | str]) -> tuple[PublicKey, ...]:
    """Public keys from their files.

    Raises:
        UsageError: a file is missing or holds no Ed25519 public key.
    """
    return tuple(read_public_key(path) for path in paths)


def _written(key: PublicKey, signature: bytes) -> bytes:
    table = {
        "format": FORMAT,
        "schema_version": SCHEMA_VERSION,
        "key_id": key.id,
        "public_key": key.raw.hex(),
        "signature": signature.hex(),
    }
    return (canonical_json(table) + "\n").encode()


def _hex(value: object, name: str, length: int) -> bytes:
    try:
        raw = bytes.fromhex(value) if isinstance(value, str) else b""
    except ValueError:
        raw = b""
    if len(raw) != length:
        raise BundleError(f"{SIGNATURE_MEMBER} gives no {name} of {length} bytes. {AGAIN}")
    return raw
