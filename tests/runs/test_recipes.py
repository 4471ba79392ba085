"""Recipes from files, and changed by options."""

from pathlib import Path

import pytest

from hilum.config import from_mapping, to_mapping
from hilum.errors import ConfigError, UsageError
from hilum.runs.recipes import RECIPES, Recipe, changed, recipe


def written(folder: Path, text: str, name: str = "own.toml") -> str:
    path = folder / name
    path.write_text(text)
    return str(path)


def test_a_file_changes_what_it_names_and_leaves_the_rest(tmp_path: Path) -> None:
    """Tables within tables, and one value of one stage."""
    own = recipe(
        written(
            tmp_path,
            """
            based_on = "phantom"
            label_smoothing = 0.1
            [imbalance]
            strategy = "focal"
            [preprocessing]
            size = 96
            [stages.last-block]
            trainable_from = "last-2-blocks"
            layer_decay = 0.4
            """,
        )
    )
    base = RECIPES["phantom"]
    assert (own.label_smoothing, own.imbalance.text(), own.preprocessing.size) == (0.1, "focal (γ = 2)", 96)
    assert own.preprocessing.intensity == base.preprocessing.intensity
    assert own.stages[0] == base.stages[0]
    assert (own.stages[1].layer_decay, own.stages[1].lr) == (0.4, base.stages[1].lr)


def test_a_list_of_stages_takes_the_place_of_the_base_s(tmp_path: Path) -> None:
    own = recipe(written(tmp_path, '{"stages": [{"name": "all", "trainable_from": "all", "views": null}]}', "own.json"))
    assert [stage.trainable_from for stage in own.stages] == ["all"]
    assert own.hidden == RECIPES["starter"].hidden


def test_everything_wrong_in_a_file_is_told_at_once(tmp_path: Path) -> None:
    text = """
    based_on = "startr"
    dropuot = 0.2
    label_smoothing = "much"
    [imbalance]
    strategy = "logit-adjustmnt"
    [stages.head]
    lr = 0
    [stages.last-blok]
    lr = 1
    """
    with pytest.raises(ConfigError) as caught:
        recipe(written(tmp_path, text))
    found = "\n".join(caught.value.problems)
    for part in (
        "based_on is 'startr'. Did you mean 'starter'?",
        "unknown key 'dropuot'. Did you mean 'dropout'?",
        "label_smoothing is 'much' (str), but must be float",
        "strategy is 'logit-adjustmnt'. Did you mean 'logit-adjustment'?",
        "stages[0]: Stage 'head': lr is 0.0, but must be above 0",
        "unknown stage 'last-blok'. Did you mean 'last-block'?",
    ):
        assert part in found
    assert len(caught.value.problems) == 6


@pytest.mark.parametrize(
    ("text", "name", "message"),
    [
        ("hidden = ", "own.toml", "own.toml is no TOML .*Mend it there"),
        ("{", "own.json", "own.json is no JSON"),
        ("[1]", "own.json", "holds a list, but must hold names and values"),
        ("[stages]\nhead = 3", "own.toml", "stages.head is 3, but must hold names and values"),
        ("based_on = 3", "own.toml", "based_on is 3. Known: phantom"),
    ],
)
def test_a_file_that_is_no_recipe_is_refused(tmp_path: Path, text: str, name: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        recipe(written(tmp_path, text, name))


def test_a_missing_file_says_which_recipes_there_are() -> None:
    with pytest.raises(UsageError, match="nowhere.toml does not exist. Give a file, or one of: starter"):
        recipe("nowhere.toml")


def test_options_change_a_recipe_and_what_they_leave_out_stays() -> None:
    base = RECIPES["starter"]
    assert changed(base) == base
    own = changed(base, imbalance="oversampling", label_smoothing=0.05, precision="bf16")
    assert (own.imbalance.strategy, own.label_smoothing) == ("oversampling", 0.05)
    assert {stage.precision for stage in own.stages} == {"bf16"}
    told = r"^precision is 'fp8'.*\nrecipe.imbalance.strategy is 'focl'. Did you mean 'focal'\?"
    with pytest.raises(ConfigError, match=told) as caught:
        changed(base, imbalance="focl", precision="fp8")
    assert len(caught.value.problems) == 2
    with pytest.raises(ConfigError, match="label_smoothing is 1.5, but must be in 0 … 1"):
        changed(base, label_smoothing=1.5)


def test_wrong_values_of_a_recipe_are_refused_at_once() -> None:
    with pytest.raises(ConfigError, match=r"hidden is 0.*\ndropout is 1.*\nstages are missing: a recipe has one"):
        Recipe(hidden=0, dropout=1.0, stages=())


def test_every_recipe_goes_through_json() -> None:
    for known in RECIPES.values():
        assert from_mapping(Recipe, to_mapping(known)) == known
