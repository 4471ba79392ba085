"""Signed documents: canonical JSON and Ed25519 signatures of it, kept together in one file."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hilum.config import canonical_json, from_mapping
from hilum.errors import DataError
from hilum.files import write_bytes
from hilum.keys import PrivateKey, PublicKey

CONTEXT = b"hilum change v1\x00"
"""Put before what is signed, so that a signature for another purpose means nothing here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Signature:
    """Who signed, and the signature."""

    name: str
    """Who it says it is."""
    key: str
    """Public key, 64 hex digits."""
    signature: str
    """128 hex digits."""


def sign(document: Mapping[str, Any], *, name: str, key: PrivateKey) -> Signature:
    """Sign a document's canonical JSON together with the signer's name."""
    made = key.sign(_message(document, name))
    return Signature(name=name, key=key.public.raw.hex(), signature=made.hex())


def verifies(document: Mapping[str, Any], signature: Signature) -> bool:
    """Whether the key that the signature names made it for this document and this name."""
    try:
        key, made = bytes.fromhex(signature.key), bytes.fromhex(signature.signature)
    except ValueError:
        return False
    return PublicKey(raw=key).verifies(made, _message(document, signature.name))


def _message(document: Mapping[str, Any], name: str) -> bytes:
    return CONTEXT + canonical_json({"document": dict(document), "signer": name}).encode()


def write_signed(path: Path, document: Mapping[str, Any], signatures: tuple[Signature, ...]) -> None:
    """Write a document with its signatures."""
    write_bytes(path, canonical_json({"document": dict(document), "signatures": list(signatures)}).encode() + b"\n")


def read_signed(path: Path) -> tuple[dict[str, Any], tuple[Signature, ...]]:
    """Read a document whose every signature fits.

    Raises:
        DataError: it can't be read, or a signature doesn't fit the document.
        ConfigError: a signature has unknown keys.
    """
    try:
        values = json.loads(path.read_text("utf-8"))
        document, listed = values["document"], values["signatures"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{path} is no signed document ({type(error).__name__}). Give one that hilum change wrote."
        ) from None
    signatures = tuple(from_mapping(Signature, one, where=f"{path.name}: signature") for one in listed)
    for one in signatures:
        if not verifies(document, one):
            raise DataError(f"{path}: the signature of {one.name!r} doesn't fit the document: one of them was forged.")
    return document, signatures
