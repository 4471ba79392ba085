"""The list of a bundle's members with their hashes, and the one digest that names the bundle."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from hilum.bundle.schema import SCHEMA_VERSION, check_schema, parse_json
from hilum.config import canonical_json
from hilum.errors import BundleError
from hilum.provenance import sha256_bytes

MEMBERS_MEMBER = "members.json"
SIGNATURE_MEMBER = "signature.json"
"""The one member that the list does not name; see :mod:`hilum.bundle.signature`."""

FORMAT = "hilum-bundle"

_PART = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}"
_NAME = re.compile(rf"{_PART}(?:/{_PART}){{0,3}}")
_HASH = re.compile(r"[0-9a-f]{64}")

AGAIN = "Get the bundle again from where it was made; don't use this copy."
"""The mend of every refusal that a reader can't explain otherwise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One file of a bundle."""

    sha256: str
    """SHA-256 of its content, 64 hex digits."""
    bytes: int
    """Its length."""


def check_name(name: str) -> None:
    """Refuse a member's name that could lead out of the bundle, or be read in two ways.

    Raises:
        BundleError: absolute, with ``..``, a backslash, a drive, a leading dot, or characters beyond ``A-Za-z0-9_.-``.
    """
    if not _NAME.fullmatch(name):
        raise BundleError(
            f"Bundle member {name[:120]!r} has a name that is not allowed (relative, up to four parts of letters, "
            f"digits, '_', '-', '.'). {AGAIN}"
        )


def members_of(contents: Mapping[str, bytes]) -> dict[str, Member]:
    """Hash every member."""
    return {name: Member(sha256=sha256_bytes(content), bytes=len(content)) for name, content in contents.items()}


def digest(members: Mapping[str, Member]) -> str:
    """The bundle's digest: SHA-256 over the canonical JSON of its members' names, hashes and lengths."""
    return sha256_bytes(canonical_json(members).encode())


def write_members(members: Mapping[str, Member]) -> bytes:
    """``members.json``: canonical, so that equal members give equal bytes."""
    table = {"format": FORMAT, "schema_version": SCHEMA_VERSION, "digest": digest(members), "members": members}
    return (canonical_json(table) + "\n").encode()


def read_members(content: bytes) -> tuple[dict[str, Member], str]:
    """Read ``members.json``, strictly.

    Returns:
        the members by name, and the bundle's digest.

    Raises:
        BundleError: not JSON, a newer schema, a bad name, hash or length, or a digest that the members don't have.
    """
    table = parse_json(content, MEMBERS_MEMBER)
    if table.get("format") != FORMAT:
        raise BundleError(f"{MEMBERS_MEMBER} has format {table.get('format')!r}, but must have {FORMAT!r}. {AGAIN}")
    check_schema(table.get("schema_version"), MEMBERS_MEMBER)
    listed = table.get("members")
    if not isinstance(listed, dict) or not listed:
        raise BundleError(f"{MEMBERS_MEMBER} lists no members. {AGAIN}")
    members = {name: _member(name, entry) for name, entry in listed.items()}
    if len({name.casefold() for name in members}) != len(members):
        raise BundleError(f"{MEMBERS_MEMBER} lists names that differ in case only. {AGAIN}")
    # Comparing the bytes also refuses unknown keys, spaces and another digest: nothing in this file can be altered.
    if write_members(members) != content:
        raise BundleError(f"{MEMBERS_MEMBER} was changed: its digest or form is not that of its members. {AGAIN}")
    return members, digest(members)


def _member(name: str, entry: object) -> Member:
    check_name(name)
    if name in (MEMBERS_MEMBER, SIGNATURE_MEMBER):
        raise BundleError(f"{MEMBERS_MEMBER} lists {name}, which is never listed. {AGAIN}")
    sha256, length = (entry.get("sha256"), entry.get("bytes")) if isinstance(entry, dict) else (None, None)
    if not isinstance(sha256, str) or not _HASH.fullmatch(sha256):
        raise BundleError(f"{MEMBERS_MEMBER} gives no SHA-256 for {name!r}. {AGAIN}")
    if not isinstance(length, int) or isinstance(length, bool) or length < 0:
        raise BundleError(f"{MEMBERS_MEMBER} gives no length for {name!r}. {AGAIN}")
    return Member(sha256=sha256, bytes=length)
