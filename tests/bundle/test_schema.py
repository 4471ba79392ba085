"""bundle.json as a value: round trip, and every problem reported at once."""

import ast
import json
import math
from pathlib import Path

import pytest
from tests.bundle.small import small_info

from hilum.bundle.schema import OUTPUTS, AbstentionPolicy, read_info
from hilum.errors import BundleError, ConfigError


def test_round_trip_through_bytes() -> None:
    info = small_info(abstention=AbstentionPolicy(mutual_information=0.1), operating_points={"covid-19": {"rule": "x"}})
    assert read_info(info.to_bytes()) == info
    assert read_info(info.to_bytes()).to_bytes() == info.to_bytes()


def test_a_bundle_from_before_other_doubts_could_be_chosen_still_reads() -> None:
    values = json.loads(small_info(abstention=AbstentionPolicy(least_probability=0.5)).to_bytes())
    values["abstention"] = {"mutual_information": None, "least_probability": 0.5, "member_std": None}
    assert read_info(json.dumps(values).encode()).abstention == AbstentionPolicy(least_probability=0.5)


def test_limits_of_doubt_that_can_not_be_applied_are_refused() -> None:
    with pytest.raises(ConfigError) as caught:
        small_info(
            abstention=AbstentionPolicy(
                entropy=-1, mc_std=math.nan, ood_distance=1.0, set_size=0, set_limits={"normal": 2.0}
            )
        )
    said = "\n".join(caught.value.problems)
    assert len(caught.value.problems) == 6
    for words in (
        "bundle.abstention.entropy is -1, but must be 0 or more.",
        "bundle.abstention.mc_std is nan",
        "bundle.abstention.set_size is 0, but must be 1 or more.",
        "bundle.abstention.set_limits.normal is 2.0, but must be within 0 … 1.",
        "set_limits names ['normal'], but set_size needs one for each of",
        "bundle.abstention.ood_distance is set, but the bundle has no ood reference",
    ):
        assert words in said


def test_rules_in_words_name_each_limit_that_is_set() -> None:
    assert AbstentionPolicy().rules() == ()
    told = AbstentionPolicy(least_probability=0.5, set_size=1, set_limits={"a": 0.1}).rules()
    assert told == (
        "the likeliest finding stays below 0.500",
        "the prediction set holds more than 1 or none of the findings",
    )


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
