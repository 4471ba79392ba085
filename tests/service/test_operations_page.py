"""docs/operations.md names every setting with its default, and its examples are what the doors take."""

import json
import re
from pathlib import Path

from hilum.imaging.intended_use import CHECKS, GatePolicy
from hilum.service.rest.models import Activate
from hilum.service.rest.reviews import ReviewIn
from hilum.service.rest.users import NewKey, NewUser
from hilum.service.settings import Settings

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "operations.md").read_text()
PLACES = {"data", "database_url", "trusted_keys", "gate_policy", "allowed_hosts"}
"""Settings whose default is a place or nothing, in words on the page."""


def test_every_setting_is_on_one_of_the_two_pages() -> None:
    named = re.findall(r"HILUM_[A-Z_]+", PAGE + (DOCS / "dicom.md").read_text())
    known = {f"HILUM_{name.upper()}" for name in Settings.model_fields} - {"HILUM_BUNDLE"}
    assert known - set(named) == set()
    assert set(re.findall(r"HILUM_[A-Z_]+", PAGE)) <= known | {"HILUM_API_KEY", "HILUM_CA"}, (
        "of no service and no client"
    )


def test_the_defaults_on_the_page_are_those_of_the_code() -> None:
    rows = [re.split(r" \| ", row.strip("| ")) for row in PAGE.splitlines() if row.startswith("| `HILUM_")]
    assert len(rows) > 15
    for names, _, default, *_ in rows:
        fields = [name.removeprefix("HILUM_").lower() for name in re.findall(r"HILUM_[A-Z_]+", names)]
        values = [Settings.model_fields[field].default for field in fields]
        if not PLACES & set(fields) and None not in values:
            assert default.split(", ") == [str(int(v) if isinstance(v, bool | float) else v) for v in values], names


def test_the_examples_are_what_the_doors_and_the_gate_take() -> None:
    user, key, review, change = [json.loads(body) for body in re.findall(r"-d '(.*?)'", PAGE)]
    assert Activate(**change | {"sha256": "0" * 64}).reason
    assert ReviewIn(**review).decision == "override"
    assert NewUser(**user).name == NewKey(**key).user
    (policy,) = re.findall(r"`(\{.*?\})`", PAGE)
    asked = GatePolicy(**json.loads(policy))
    assert set(asked.refuse_unknown) <= set(CHECKS)
