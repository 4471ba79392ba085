"""What a client accepts (RFC 9110 section 12.5.1, PS3.18 section 8.7)."""

from collections.abc import Iterable
from dataclasses import dataclass

from starlette.exceptions import HTTPException

from hilum.service.dicomweb.multipart import parameters

DICOM, JSON, XML, OCTETS = (
    "application/dicom",
    "application/dicom+json",
    "application/dicom+xml",
    "application/octet-stream",
)
RELATED = "multipart/related"
ANY_SYNTAX = "*"


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """One kind that the client takes."""

    kind: str
    """Of the whole reply, in lower case."""
    part: str
    """Of the parts, where the reply is multipart; empty for any."""
    syntax: str
    """Transfer syntax UID; ``*`` for any; empty where none is named."""


def accepted(header: str | None) -> tuple[Accepted, ...]:
    """The kinds that a client takes, the most wanted first; anything where it says nothing."""
    found = []
    for order, item in enumerate(_items(header or "*/*")):
        kind, given = parameters(item)
        try:
            weight = float(given.get("q", "1"))
        except ValueError:
            weight = 0.0
        if weight > 0:
            one = Accepted(kind=kind, part=given.get("type", "").lower(), syntax=given.get("transfer-syntax", ""))
            found.append((-weight, order, one))
    return tuple(one for *_, one in sorted(found, key=lambda entry: entry[:2]))


def json_or_refuse(header: str | None) -> str:
    """The media type of a JSON reply; raises HTTPException 406 where the client takes none."""
    for one in accepted(header):
        if one.kind in (JSON, "application/json"):
            return one.kind
        if one.kind in ("*/*", "application/*"):
            return JSON
    raise refused(JSON)


def refused(*kinds: str) -> HTTPException:
    """Nothing that there is is accepted."""
    return HTTPException(406, f"What is asked for is to be had as {', '.join(kinds)}. Name it in the Accept header.")


def takes_multipart(one: Accepted, part: str, syntax: str | None) -> bool:
    """Whether a client takes a multipart reply with such parts.

    Args:
        one: what it takes.
        part: the parts' media type.
        syntax: their transfer syntax; None where it plays no role.
    """
    group = f"{part.partition('/')[0]}/*"
    if one.kind == "*/*" or (one.kind == RELATED and one.part in ("", "*/*", group, part)):
        return syntax is None or one.syntax in ("", ANY_SYNTAX, syntax)
    return False


def _items(header: str) -> Iterable[str]:
    """Split at commas outside quotes."""
    item, quoted = "", False
    for character in header[:4096]:
        if character == '"':
            quoted = not quoted
        if character == "," and not quoted:
            yield item
            item = ""
        else:
            item += character
    yield item
