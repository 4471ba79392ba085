"""``hilum models``: what a person and a program read."""

import json

import pytest
from typer.testing import CliRunner

from hilum.cli.models import app
from hilum.errors import UsageError


def test_list_names_every_network_with_its_weights() -> None:
    done = CliRunner().invoke(app, ["list"])
    assert done.exit_code == 0
    assert "densenet121      2017  3×224×224  1024      features.denseblock4  imagenet" in done.stdout
    assert "hilum_small      2026  3×224×224  176       block5                hilum" in done.stdout


def test_show_prints_the_layer_table() -> None:
    done = CliRunner().invoke(app, ["show", "lenet5"])
    assert "c3      Conv2d     16×10×10  2,416       240,000  14" in done.stdout
    assert "61,706 parameters, 0.4 million MACs at 32×32" in done.stdout
    assert "relu1" not in done.stdout


def test_show_all_has_activations_too() -> None:
    assert "relu1" in CliRunner().invoke(app, ["show", "lenet5", "--all"]).stdout


def test_show_json_is_one_object_on_the_last_line() -> None:
    done = CliRunner().invoke(app, ["show", "lenet5", "--json"])
    shown = json.loads(done.stdout.splitlines()[-1])
    assert (shown["parameters"], shown["macs"], shown["input"]) == (61_706, 416_520, [1, 32, 32])
    assert shown["layers"][0] == {
        "name": "c1",
        "kind": "Conv2d",
        "shape": [6, 28, 28],
        "parameters": 156,
        "macs": 117_600,
        "receptive_field": 5,
    }


def test_an_unknown_name_lists_the_nearest() -> None:
    with pytest.raises(UsageError, match="Did you mean 'lenet5'"):
        CliRunner().invoke(app, ["show", "lenet"], catch_exceptions=False)
