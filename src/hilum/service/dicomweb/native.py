"""Data sets of ours as JSON and as XML (PS3.18 annex F, PS3.19 annex A "Native DICOM Model")."""

import json
from typing import Any
from xml.sax.saxutils import escape, quoteattr

from hilum.service.dicomweb.attributes import Attributes

NAMESPACE = "http://dicom.nema.org/PS3.19/models/NativeDICOM"


def as_json(attributes: Attributes) -> str:
    """One data set."""
    return json.dumps(attributes, separators=(",", ":"))


def as_xml(attributes: Attributes) -> str:
    """One data set of text, numbers and sequences."""
    from pydicom.datadict import keyword_for_tag

    def element(tag: str, one: dict[str, Any]) -> str:
        values = one.get("Value", [])
        if one["vr"] == "SQ":
            inside = "".join(
                f'<Item number="{i}">{"".join(element(*entry) for entry in item.items())}</Item>'
                for i, item in enumerate(values, 1)
            )
        else:
            inside = "".join(f'<Value number="{i}">{escape(str(v))}</Value>' for i, v in enumerate(values, 1))
        keyword = keyword_for_tag(int(tag, 16))
        return f'<DicomAttribute tag="{tag}" vr="{one["vr"]}" keyword={quoteattr(keyword)}>{inside}</DicomAttribute>'

    body = "".join(element(tag, one) for tag, one in sorted(attributes.items()))
    return (
        '<?xml version="1.0" encoding="UTF-8"?>'
        f'<NativeDicomModel xmlns="{NAMESPACE}" xml:space="preserve">{body}</NativeDicomModel>'
    )
