"""Bodies that nobody sends by mistake, drawn by a number: JSON for every route that writes, multipart, uploads.

A request's number says all of it, so one that was slow or failed is sent again by its number alone.
"""

import json
import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx
from tests.service.small import dicom, png

WRITING = ("post", "put", "patch", "delete")
STOW, UPLOAD = ("POST", "/dicom-web/studies"), ("POST", "/api/v1/studies")
DOORS = (STOW[1], STOW[1] + "/{study}", UPLOAD[1])
"""Where films come in: the one place that may say 503 with Retry-After while all else is well."""

DEEP = 20_000
STRANGE = (
    b"null", b"true", b"0", b"-1", b"0.1", b"1e999", b"1" + b"0" * 5_000, b"9" * 19, b"NaN", b"-Infinity",
    b'""', rb'"\u0000"', rb'"\ud800"', b'"\xff\xfe"', rb'"\x"', b'"', b'"\n"', b'"' + b"x" * 200_000 + b'"',
    '"\u202e\U0001f600é"'.encode(), b'"../../../../etc/passwd"', b'"9999-99-99T99:99:99Z"', b'"2\' OR 1=1; --"',
    b"[]", b"{}", b"[" * DEEP + b"]" * DEEP, b'{"a":' * DEEP + b"1" + b"}" * DEEP, b"[" + b"0," * 20_000 + b"0]",
    b"{" + b",".join(b'"%d":0' % i for i in range(5_000)) + b"}", b'[{"name":"q1"}]', b"[" * 3, b"//", b"\0",
)  # fmt: skip
PARTS = (
    "%00", "%ED%A0%80", "..%2f..%2fetc", "x" * 2_000, "%F0%9F%98%80", "-1", "1.2.840", "%20", "%0d%0aX:y", "0" * 32,
    "99999999999999999999", "%25", "null", ";", "*", "1,2,,3", "..%5c",
)  # fmt: skip
KINDS = (
    "application/json", "application/json; charset=utf-16", "application/json; charset=none", "text/plain", "",
    "application/x-www-form-urlencoded", "multipart/form-data; boundary=b1", "multipart/form-data", "a", "application/",
    "application/dicom", "application/octet-stream", "image/png", "application/dicom+json", "x" * 5_000, ";;=;",
)  # fmt: skip
HEADERS = (
    ("Idempotency-Key", "x" * 300), ("Idempotency-Key", "same"), ("Idempotency-Key", "\xff"), ("If-Match", "*"),
    ("If-Match", '"0"'), ("If-Match", "W/" * 99), ("If-None-Match", "*"), ("If-None-Match", '"' * 99),
    ("Accept", "application/dicom+json"), ("Accept", "a/b;q=x,,;"), ("Accept", ","), ("Accept-Language", "\xff" * 99),
    ("Content-Encoding", "gzip"), ("X-CSRF-Token", "\xe9"), ("Cookie", "hilum_session=\xff; =;"), ("Range", "bytes=-"),
    ("Origin", "null"), ("Last-Event-ID", "-1"), ("Expect", "200-ok"), ("Content-MD5", "x"),
)  # fmt: skip
QUERIES = ("wait=-1", "wait=nan", "priority=x", "passed=x", "a=%ED%A0%80", "wait=%00", "&&&=", "limit=1e9", "x" * 3_000)
LIKELY: Mapping[str, Any] = {
    "roles": ["viewer"],
    "scopes": ["films:read"],
    "password": "a password of sixteen",
    "sha256": "0" * 64,
}
"""Values of fields whose schema doesn't say what is taken."""


@dataclass(frozen=True, slots=True)
class Drawn:
    """A request."""

    route: tuple[str, str]
    """Method and the route's pattern."""
    ways: tuple[str, ...]
    """What was done to it; empty for one that is right."""
    path: str
    headers: dict[bytes, bytes]
    body: bytes
    chunked: bool


@dataclass(slots=True)
class Abuse:
    """Draws requests from the description of the interface.

    Args:
        description: OpenAPI, as the service gives it.
        known: real values of parts of addresses.
        seed: of all that is drawn.
    """

    description: dict[str, Any]
    known: Mapping[str, str]
    seed: int
    routes: list[tuple[str, str]] = field(init=False)

    def __post_init__(self) -> None:
        self.routes = [
            (method.upper(), path)
            for path, methods in self.description["paths"].items()
            for method in methods
            if method in WRITING
        ]

    def draw(self, number: int) -> Drawn:
        """The request of this number: half of them to any route, a quarter to STOW-RS, a quarter to the upload."""
        rng = random.Random(f"{self.seed}/{number}")
        route = (rng.choice(self.routes), rng.choice(self.routes), STOW, UPLOAD)[number % 4]
        made: Callable[[random.Random, tuple[str, str]], tuple[str, str, bytes]]
        made = {STOW: _multipart, UPLOAD: _upload}.get(route, self._json)
        way, kind, body = made(rng, route)
        headers = {b"Content-Type": kind.encode("latin-1")}
        ways, chunked = [way], False
        path = "/".join(self._part(rng, part, ways) for part in route[1].split("/"))
        if rng.random() < 0.2:
            ways.append("header")
            headers |= {name.encode(): value.encode("latin-1") for name, value in rng.sample(HEADERS, 2)}
        if rng.random() < 0.1:
            ways.append("query")
            path += "?" + rng.choice(QUERIES)
        if rng.random() < 0.1:
            ways, chunked = [*ways, "chunked"], True
        return Drawn(route, tuple(one for one in ways if one), path, headers, body, chunked)

    def _part(self, rng: random.Random, part: str, ways: list[str]) -> str:
        if not part.startswith("{"):
            return part
        if rng.random() < 0.2:
            ways.append("address")
            return rng.choice(PARTS)
        return self.known.get(part.strip("{}"), "q1")

    def _json(self, rng: random.Random, route: tuple[str, str]) -> tuple[str, str, bytes]:
        operation = self.description["paths"][route[1]][route[0].lower()]
        content = operation.get("requestBody", {}).get("content", {})
        schema = content.get("application/json", {}).get("schema")
        good = self._example(rng, "", schema) if schema else {"name": "q1"}
        kind, text = "application/json", json.dumps(good).encode()
        way = rng.choice(("", "value", "value", "value", "key", "wrap", "bytes", "bytes", "encoding", "kind", "whole"))
        if way == "value":
            text = _with_strange(rng, good)
        elif way == "key" and isinstance(good, dict):
            text = _other_keys(rng, good)
        elif way == "wrap":
            deep = rng.choice((1, 2, 50, 5_000))
            text = rng.choice((b"[" * deep + text + b"]" * deep, b'{"x":' * deep + text + b"}" * deep, text * deep))
        elif way == "bytes":
            text = _spoilt(rng, text)
        elif way == "encoding":
            text = rng.choice((b"\xef\xbb\xbf" + text, text.decode().encode("utf-16"), text.decode().encode("utf-32")))
        elif way == "kind":
            kind = rng.choice(KINDS)
        elif way == "whole":
            text = rng.choice(STRANGE)
        return way, kind, text

    def _example(self, rng: random.Random, name: str, schema: Mapping[str, Any]) -> Any:
        """A value that the schema allows, as far as it says."""
        if name in LIKELY or name in self.known:
            return LIKELY.get(name, self.known.get(name))
        if "$ref" in schema:
            found: Any = self.description
            for step in schema["$ref"].removeprefix("#/").split("/"):
                found = found[step]
            return self._example(rng, name, found)
        if "anyOf" in schema:
            return self._example(rng, name, rng.choice(schema["anyOf"]))
        if "enum" in schema or "const" in schema:
            return rng.choice(schema.get("enum") or [schema["const"]])
        kind = schema.get("type")
        if kind == "object":
            fields, must = schema.get("properties", {}), schema.get("required", ())
            chosen = [one for one in fields if one in must or rng.random() < 0.5]
            return {one: self._example(rng, one, fields[one]) for one in chosen}
        if kind == "array":
            return [self._example(rng, "", schema.get("items", {})) for _ in range(schema.get("minItems", 1))]
        if kind in ("integer", "number"):
            return schema.get("minimum", 1)
        if kind == "boolean":
            return rng.random() < 0.5
        return None if kind == "null" else f"q{rng.randrange(9)}".ljust(schema.get("minLength", 0), "q")


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every list or dict with each of its places."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for place, one in inside:
        yield value, place
        yield from _places(one)


def _with_strange(rng: random.Random, value: Any) -> bytes:
    value, mark = json.loads(json.dumps(value)), "@@"
    places = list(_places(value))
    if not places:
        return rng.choice(STRANGE)
    inside, place = rng.choice(places)
    inside[place] = mark
    return json.dumps(value).encode().replace(b'"@@"', rng.choice(STRANGE))


def _other_keys(rng: random.Random, value: dict[str, Any]) -> bytes:
    pairs = list(value.items())
    way = rng.randrange(5)
    if way == 0 and pairs:
        del pairs[rng.randrange(len(pairs))]
    elif way == 1:
        pairs.append((rng.choice(("q", "__proto__", "", "x" * 9_999, "\u0000")), 1))
    elif way == 2:
        pairs *= rng.choice((2, 500))
    elif way == 3:
        pairs = [(name.upper(), one) for name, one in pairs]
    else:
        pairs += [(f"q{i}", i) for i in range(rng.choice((3, 20_000)))]
    return b"{" + b",".join(json.dumps(name).encode() + b":" + json.dumps(one).encode() for name, one in pairs) + b"}"


def _spoilt(rng: random.Random, text: bytes, *, before: int | None = None) -> bytes:
    """Some bytes changed, cut, put in, twice or gone, in the first so many."""
    content = bytearray(text)
    end = min(len(content), before or len(content))
    at = rng.randrange(end + 1)
    way = rng.randrange(5)
    if way == 0:
        for _ in range(rng.randrange(1, 9)):
            if end:
                content[rng.randrange(end)] = rng.randrange(256)
    elif way == 1:
        del content[at:]
    elif way == 2:
        content[at:at] = rng.randbytes(rng.randrange(1, 60))
    elif way == 3:
        content[at:at] = content[max(0, at - rng.randrange(1, 99)) : at] * rng.randrange(1, 99)
    else:
        del content[at : at + rng.randrange(1, 30)]
    return bytes(content)


def _film(rng: random.Random) -> tuple[str, bytes]:
    """A small film and its kind; one of some hundred, so that the same come again."""
    number = rng.randrange(300)
    return (
        ("application/dicom", dicom(5_000 + number, number % 200 + 1))
        if number % 3
        else ("image/png", png(number % 250))
    )


def _multipart(rng: random.Random, _: tuple[str, str]) -> tuple[str, str, bytes]:
    film = dicom(5_000 + rng.randrange(300), 90)
    part = b"\r\nContent-Type: application/dicom\r\n\r\n" + film + b"\r\n--b1"
    body, boundary, kind = b"--b1" + part * rng.randrange(1, 4) + b"--\r\n", "b1", ""
    way = rng.choice(
        ("", "bytes", "head", "delimiters", "headers", "parts", "noise", "boundary", "film", "part's kind", "lines",
         "around", "inside", "kind")
    )  # fmt: skip
    if way == "bytes":
        body = _spoilt(rng, body)
    elif way == "head":
        body = _spoilt(rng, body, before=60)
    elif way == "delimiters":
        at = rng.randrange(len(body))
        body = (
            body[:at] + rng.choice((b"\r\n--b1", b"--b1--", b"\r\n--b", b"\r\n-")) * rng.randrange(1, 3_000) + body[at:]
        )
    elif way == "headers":
        more = rng.choice((b"X: y\r\n", b"Content-Type: application/dicom\r\n", b":\r\n", b"\xff" * 99 + b"\r\n"))
        body = b"--b1\r\n" + more * rng.randrange(1, 5_000) + body[6:]
    elif way == "parts":
        body = rng.choice((b"--b1\r\n\r\n", b"--b1\r\n\r\n\r\n")) * rng.randrange(1, 1_500) + b"--b1--"
    elif way == "noise":
        body = rng.randbytes(rng.randrange(5_000))
    elif way == "boundary":
        boundary = rng.choice(
            ("", '"b1"', '"b 1"', " b1", "b2", "x" * 300, "\xe4", "b1; boundary=b2", '"b1', "b1\\", "-" * 70)
        )
    elif way == "film":
        body = b"--b1\r\n\r\n" + _spoilt(rng, film) + b"\r\n--b1--"
    elif way == "part's kind":
        body = body.replace(b"application/dicom", rng.choice(KINDS).encode()[: rng.choice((9, 9_999))], 1)
    elif way == "lines":
        body = body.replace(b"\r\n", rng.choice((b"\n", b"\r", b"\r\r\n", b"\r\n ")), rng.randrange(1, 9))
    elif way == "around":
        body = rng.randbytes(rng.choice((10, 70_000))) + b"\r\n" + body + rng.randbytes(rng.choice((10, 70_000)))
    elif way == "inside":
        body = b"--b1\r\nContent-Type: multipart/related; boundary=b1\r\n\r\n" + body + body
    elif way == "kind":
        kind = rng.choice(
            (*KINDS, f"multipart/mixed; boundary={boundary}", 'multipart/related; type="x/y"; boundary=b1')
        )
        return way, kind, body
    sort = rng.choice(('multipart/related; type="application/dicom"; boundary=', "multipart/related; boundary="))
    return way, sort + boundary, body


def _upload(rng: random.Random, _: tuple[str, str]) -> tuple[str, str, bytes]:
    kind, film = _film(rng)
    way = rng.choice(("", "bytes", "head", "form", "kind", "noise", "other", "nothing", "longer", "part"))
    if way == "bytes":
        film = _spoilt(rng, film)
    elif way == "head":
        film = _spoilt(rng, film, before=200)
    elif way == "form":
        disposition = rng.choice(
            (b'form-data; name="film"; filename="../../x.dcm"', b"form-data", b'x; name="' + b"x" * 9_999)
        )
        film = b"--b1\r\nContent-Disposition: " + disposition + b"\r\n\r\n" + film + b"\r\n--b1--"
        film, kind = _spoilt(rng, film, before=200), rng.choice(("multipart/form-data; boundary=b1", kind))
    elif way == "kind":
        kind = rng.choice(KINDS)
    elif way == "noise":
        film = rng.randbytes(rng.randrange(9_000))
    elif way == "other":
        film = rng.choice(
            (b"PK\3\4" + bytes(99), b"GIF89a" + bytes(99), b"<svg/>", b"%PDF-1.7", b"\x1f\x8b\x08" + bytes(99))
        )
    elif way == "nothing":
        film = b""
    elif way == "longer":
        film += rng.randbytes(1) * rng.choice((1, 1_000, 1_100_000))
    elif way == "part":
        film = rng.choice((b"\x89PNG\r\n\x1a\n", bytes(128) + b"DICM", b"\xff\xd8\xff", film[:132])) + rng.randbytes(40)
    return way, kind, film


def sent(http: httpx.Client, drawn: Drawn) -> httpx.Response:
    """The reply to a drawn request."""
    body = drawn.body

    def chunks() -> Iterator[bytes]:
        for at in range(0, len(body), 8_192):
            yield body[at : at + 8_192]

    return http.request(drawn.route[0], drawn.path, content=chunks() if drawn.chunked else body, headers=drawn.headers)


def fault(drawn: Drawn, reply: httpx.Response) -> str:
    """What is wrong with a reply: a 5xx, or an error that is no problem document; empty where nothing is."""
    status, kind, at_a_door = reply.status_code, reply.headers.get("content-type", ""), drawn.route[1] in DOORS
    if status >= 500 and not (status == 503 and at_a_door):
        return f"{status}: {reply.text[:200]}"
    if status in (429, 503) and not reply.headers.get("retry-after", "").isdigit():
        return f"{status} without Retry-After"
    if status < 400 or (drawn.route[1].startswith(STOW[1]) and kind.startswith("application/dicom+")):
        return ""  # STOW-RS says of each part why it was not stored (PS3.18 table 10.5.3-1)
    if not kind.startswith("application/problem+json"):
        return f"{status} as {kind or 'nothing'}: {reply.text[:200]}"
    told = reply.json()
    whole = set(told) >= {"type", "title", "status", "detail"} and told["status"] == status
    return "" if whole else f"{status}: {told}"
