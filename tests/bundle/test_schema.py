"""bundle.json as a value: round trip, and every problem reported at once."""

import ast
from pathlib import Path

import pytest
from tests.bundle.small import small_info

from hilum.bundle.schema import OUTPUTS, AbstentionPolicy, read_info
from hilum.errors import BundleError, ConfigError


def test_round_trip_through_bytes() -> None:
    info = small_info(abstention=AbstentionPolicy(mutual_information=0.1), operating_points={"covid-19": {"rule": "x"}})
    assert read_info(info.to_bytes()) == info
    assert read_info(info.to_bytes()).to_bytes() == info.to_bytes()


def test_all_problems_are_reported_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        small_info(name="a b", temperature=0.0, dropout=1.0, members=0, heatmap_top=float("inf"), normal="well")
    said = "\n".join(caught.value.problems)
    for word in ("bundle.name", "temperature", "dropout", "members", "heatmap_top", "bundle.normal"):
        assert word in said
    assert len(caught.value.problems) == 6


def test_a_schema_version_that_is_no_number_is_refused() -> None:
    with pytest.raises(
        BundleError, match="bundle.json has schema_version None, but needs 1 or more|needs a whole number"
    ):
        read_info(b"{}")


def test_a_schema_version_out_of_range_is_refused_when_made() -> None:
    with pytest.raises(ConfigError, match=r"bundle.schema_version is 2, but this hilum knows 1 … 1"):
        small_info(schema_version=2)


def test_outputs_are_those_of_the_exported_graph() -> None:
    """The graph is made in a room that this one can't import; the two tables must agree (read without torch)."""
    source = (Path(__file__).parents[2] / "src/hilum/models/explained.py").read_text()
    made = next(n for n in ast.parse(source).body if isinstance(n, ast.ClassDef) and n.name == "Explanation")
    assert tuple(OUTPUTS) == tuple(n.target.id for n in made.body if isinstance(n, ast.AnnAssign))  # type: ignore[union-attr]
