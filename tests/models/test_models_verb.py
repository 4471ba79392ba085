"""``hilum models``: what a person and a program read."""

import json

import pytest
from typer.testing import CliRunner

from hilum.cli.models import app
from hilum.errors import UsageError


def test_list_names_every_network_with_its_weights() -> None:
    done = CliRunner().invoke(app, ["list"])
    assert done.exit_code == 0
    rows = [line.split()[:6] for line in done.stdout.splitlines()]
    assert ["densenet121", "2017", "3×224×224", "1024", "features.denseblock4", "imagenet"] in rows
    assert ["hilum_small", "2026", "3×224×224", "176", "block5", "hilum"] in rows


def test_list_fits_100_columns_and_names_each_paper_once() -> None:
    said = CliRunner().invoke(app, ["list"]).stdout
    assert max(len(line) for line in said.splitlines()) <= 100
    table, papers = said.split("\n\n")
    numbers = {row.split()[0]: row.split()[-1] for row in table.splitlines()[2:]}
    told = " ".join(papers.split())
    for row in json.loads(CliRunner().invoke(app, ["list", "--json"]).stdout.splitlines()[-1])["models"]:
        assert told.count(f"{numbers[row['name']]} {row['citation']}") == 1


def test_list_and_message_go_by_name_and_number() -> None:
    table, _ = CliRunner().invoke(app, ["list"]).stdout.split("\n\n")
    rows = [line.split()[0] for line in table.splitlines()[2:]]
    assert rows[:3] == ["alexnet", "alexnet_2012", "densenet121"]
    assert [name for name in rows if name.startswith("resnet")] == [
        f"resnet{depth}" for depth in (18, 20, 34, 50, 56, 101, 110, 152)
    ]
    with pytest.raises(UsageError, match=f"zoo. hilum models list shows all {len(rows)}."):
        CliRunner().invoke(app, ["show", "zzz"], catch_exceptions=False)


def test_show_prints_the_layer_table() -> None:
    done = CliRunner().invoke(app, ["show", "lenet5"])
    assert "c3      Conv2d     16×10×10  2,416       240,000  14                   6.4 kB" in done.stdout
    assert "61,706 parameters, 0.4 million MACs at 32×32, 423,038 connections" in done.stdout
    assert "outputs of all layers, activations among them, 58.4 kB an image" in done.stdout  # the lines shown: 32.4 kB
    assert "kept for the backward pass 49.0 kB an image" in done.stdout
    assert "789.5 kB for a batch of 1, 2.31 MB for a batch of 32; 4 B × parameters × (1 weight" in done.stdout
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
        "connections": 122_304,
        "activation_bytes": 4 * 6 * 28 * 28,
        "receptive_field": 5,
        "local_field": 5,
        "depth": 1,
        "training_only": False,
    }
    assert [estimate["batch"] for estimate in shown["training_memory"]] == [1, 32]


def test_show_says_where_an_output_sees_the_whole_image_too() -> None:
    assert "7 + all" in CliRunner().invoke(app, ["show", "efficientnet_b0"]).stdout


def test_compare_sets_networks_side_by_side() -> None:
    done = CliRunner().invoke(app, ["compare", "alexnet", "vgg16", "lenet5"])
    assert done.exit_code == 0
    lines = [line.split("  ") for line in done.stdout.splitlines()]
    rows = {line[0]: [cell.strip() for cell in line[1:] if cell.strip()] for line in lines if len(line) > 1}
    assert rows["parameters"] == ["61,100,840", "138,357,544", "61,706"]
    assert rows["share of classifier"] == ["96.0%", "89.4%", "95.8%"]
    assert rows["MACs, million"] == ["714.2", "15,470.3", "0.4"]
    assert rows["weights"] == ["244.4 MB", "553.4 MB", "246.8 kB"]
    assert rows["input"] == ["3×224×224", "3×224×224", "1×32×32"]
    assert "vgg16: Simonyan, Zisserman 2015" in done.stdout


def test_compare_json_holds_the_rows_and_the_estimates_formula() -> None:
    done = CliRunner().invoke(app, ["compare", "lenet5", "mlp", "--json"])
    compared = json.loads(done.stdout.splitlines()[-1])
    assert [row["name"] for row in compared["models"]] == ["lenet5", "mlp"]
    assert compared["models"][0]["parameters"] == 61_706
    assert compared["models"][0]["training"][1]["batch"] == 32
    assert "what autograd keeps of an image" in compared["training_memory_formula"]


def test_compare_takes_a_size() -> None:
    done = CliRunner().invoke(app, ["compare", "alexnet", "--size", "64", "--json"])
    assert json.loads(done.stdout.splitlines()[-1])["models"][0]["input_shape"] == [3, 64, 64]


def test_compare_refuses_an_unknown_name_with_the_nearest() -> None:
    with pytest.raises(UsageError, match="Network 'lenet' is not in the zoo. Did you mean 'lenet5'"):
        CliRunner().invoke(app, ["compare", "alexnet", "lenet"], catch_exceptions=False)


def test_an_unknown_name_lists_the_nearest() -> None:
    with pytest.raises(UsageError, match="Did you mean 'lenet5'"):
        CliRunner().invoke(app, ["show", "lenet"], catch_exceptions=False)
