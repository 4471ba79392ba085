"""In what two DICOM films differ, told without what they say: by digests of their elements."""

import hashlib
import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hilum.imaging.reading import read_facts, read_film

PIXELS = "PixelData"


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """In what one film differs from another."""

    differing: tuple[str, ...]
    """Elements of both that hold something else, by keyword, private ones by tag."""
    first_only: tuple[str, ...]
    """Elements that the first one alone has."""
    second_only: tuple[str, ...]
    """Elements that the second one alone has."""


def element_digests(content: bytes) -> dict[str, str]:
    """SHA-256 of what each element of the outermost data set holds, by its keyword, or its tag where it has none.

    Args:
        content: a DICOM file. What hostile bytes do to the reader, they do here: call it in a sandbox.

    Raises:
        FilmError: as for `read_facts`.
    """
    from pydicom import dcmread
    from pydicom.datadict import keyword_for_tag

    read_facts(content)  # its limits bound what is unpacked
    found: dict[str, str] = {}
    for element in dcmread(io.BytesIO(content)).elements():
        tag: Any = element.tag
        name = keyword_for_tag(tag) or f"({tag.group:04X},{tag.element:04X})"
        value = element.value if isinstance(element.value, bytes) else str(element.value).encode()
        found[name] = hashlib.sha256(value).hexdigest()
    return found


def picture_digest(content: bytes) -> str:
    """SHA-256 of the film's pixels as the model would be given them, whatever they are encoded in.

    Args:
        content: a film's file; call it in a sandbox.

    Raises:
        FilmError: as for `read_film`.
    """
    return hashlib.sha256(read_film(content).pixels.tobytes()).hexdigest()


def difference(first: Mapping[str, str], second: Mapping[str, str]) -> Difference:
    """What differs, by what :func:`element_digests` says of two films."""
    both = first.keys() & second.keys()
    return Difference(
        differing=tuple(sorted(name for name in both if first[name] != second[name])),
        first_only=tuple(sorted(first.keys() - both)),
        second_only=tuple(sorted(second.keys() - both)),
    )
