"""``pccp.yaml`` is read strictly: all that is wrong at once, with the nearest known name."""

from pathlib import Path

import pytest
from tests.change.made import NAMES, TEST, key

from hilum.change.plan import Plan, read_plan
from hilum.change.resolving import hanley_mcneil, least_margin, resolution
from hilum.errors import ConfigError, UsageError

APPROVERS = "".join(f"    - {{name: {name}, key: {key(i + 1).public.raw.hex()}}}\n" for i, name in enumerate(NAMES))
GOOD = f"""schema: 1
name: chest classifier
version: "1"
intended_use: Assists the reading of adult frontal chest films.
scope:
  findings: [normal, pneumonia, covid-19]
test_set:
  fingerprint: "{TEST}"
non_inferiority:
  margin: 0.03
operating_points: {{pneumonia: 0.3}}
approvals:
  approvers:
{APPROVERS}"""


def read(tmp_path: Path, text: str) -> Plan:
    path = tmp_path / "pccp.yaml"
    path.write_text(text)
    return read_plan(path)


def test_a_plan_is_read_with_its_defaults_and_has_one_digest(tmp_path: Path) -> None:
    plan = read(tmp_path, GOOD)
    assert plan.non_inferiority.update_alpha == pytest.approx(0.0025)
    assert plan.approvals.approvers[1].name == "lead radiologist"
    assert plan.sha256 == read(tmp_path, "# a comment\n" + GOOD).sha256
    assert plan.sha256 != read(tmp_path, GOOD.replace("0.03", "0.04")).sha256


def test_unknown_keys_name_the_nearest_and_all_are_told_at_once(tmp_path: Path) -> None:
    text = GOOD.replace("margin:", "margn:") + "sub_groups: []\n"
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, text)
    told = "\n".join(caught.value.problems)
    assert "unknown key 'margn'. Did you mean 'margin'?" in told
    assert "unknown key 'sub_groups'. Did you mean 'subgroups'?" in told


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("schema: 1", "schema: 2", "schema is 2, but this version reads 1"),
        ("margin: 0.03", "margin: 0", "non_inferiority.margin is 0.0, but must lie between 0 and 0.5"),
        ("margin: 0.03", "margin: 0.03\n  updates: 0", "updates is 0, but must be 1 or more"),
        (TEST, "77", "test_set.fingerprint must be 64 hex digits"),
        ("{pneumonia: 0.3}", "{pneumonia: 3}", "operating_points.pneumonia is 3.0, but must lie in 0 … 1"),
        ("{pneumonia: 0.3}", "{flu: 0.3}", "operating_points names the finding 'flu'"),
        ("approvals:\n", "approvals:\n  least: 1\n", "two people must approve at least"),
        ("approvals:\n", "approvals:\n  least: 4\n", "names 3 approvers, but 4 must approve"),
        (key(2).public.raw.hex(), key(1).public.raw.hex(), "two approvers have the same key"),
        (key(2).public.raw.hex(), "abc", "key of 'lead radiologist' must be 64 hex digits"),
        ("approvals:", "superiority: {finding: flu}\napprovals:", "superiority names the finding 'flu'"),
        (
            "approvals:",
            "critical_cases: [{film_id: abc, finding: pneumonia}]\napprovals:",
            "'abc' is too short",
        ),
        (
            "approvals:",
            "critical_cases: [{film_id: abcdefabcdef, finding: covid-19}]\napprovals:",
            "critical_cases: 'covid-19' needs its operating point",
        ),
        (
            "approvals:",
            "subgroups: [{group: sexe, finding: pneumonia, floor: 0.7}]\napprovals:",
            "group 'sexe'; known are",
        ),
        (
            "approvals:",
            "subgroups: [{group: sex, finding: covid-19, floor: 0.7, metric: sensitivity}]\napprovals:",
            "sensitivity of 'covid-19' needs its operating point",
        ),
        ("schema: 1", "schema: 1\nname: twice", "line 3: the key 'name' stands there twice"),
        ("schema: 1", "schema: [1", "is no YAML"),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, old: str, new: str, told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, GOOD.replace(old, new, 1))
    assert told in "\n".join(caught.value.problems)


def test_a_file_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="can't be read"):
        read_plan(tmp_path / "absent.yaml")
    with pytest.raises(ConfigError, match="holds list, not a mapping"):
        read(tmp_path, "- a\n")


def test_code_in_a_plan_is_never_run(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is no YAML"):
        read(tmp_path, "schema: !!python/object/apply:os.system ['true']\n")


def test_a_margin_of_two_points_on_a_hundred_films_is_theatre() -> None:
    least = least_margin(100, 300)
    assert 0.045 < least < 0.06
    assert not resolution(least / 2.8, 0.02, alpha=0.025, power=0.8).resolved
    assert least_margin(1600, 4800) == pytest.approx(least / 4, rel=0.03)


def test_hanley_and_mcneils_error_is_theirs() -> None:
    """Their table: an AUROC of 0.8 with 50 and 50 films has a standard error of 0.045 (1982, figure 3)."""
    assert hanley_mcneil(0.8, 50, 50) == pytest.approx(0.045, abs=0.001)
    with pytest.raises(UsageError, match=r"AUROC of 0\.3"):
        hanley_mcneil(0.3, 50, 50)
