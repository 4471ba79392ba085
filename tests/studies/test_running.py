"""What every study shares: a folder that appears whole, a first line that says what was measured, and no second run."""

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from hilum.errors import DataError, RunError, UsageError
from hilum.studies.bench import Bench, Request
from hilum.studies.outcome import Number, over_seeds, share
from hilum.studies.running import command

Run = Callable[..., dict[str, Any]]


def timeless(value: Any) -> Any:
    """Without times and dates, which differ from run to run."""
    if isinstance(value, dict):
        dropped = ("created", "seconds")
        return {
            key: timeless(item)
            for key, item in value.items()
            if key not in dropped and not key.endswith(("_s", "_ms", "_per_s"))
        }
    return [timeless(item) for item in value] if isinstance(value, list) else value


def test_the_folder_holds_report_figures_and_numbers(run_small: Run, tmp_path: Path) -> None:
    result = run_small()
    folder = tmp_path / "small"
    names = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    assert names == [
        "config.json",
        "environment.json",
        "figures/loss.png",
        "figures/loss.svg",
        "report.html",
        "result.json",
    ]
    assert json.loads((folder / "result.json").read_text()) == result
    page = (folder / "report.html").read_text()
    assert result["finding"] in page
    assert "What was found" in page
    assert not list(tmp_path.glob(".small*"))


def test_the_first_line_says_in_capitals_that_data_are_embedded_and_names_the_network(
    run_small: Run, tmp_path: Path
) -> None:
    result = run_small()
    assert result["first_line"].startswith("EMBEDDED data: ")
    assert "Networks: a linear model (random weights)." in result["first_line"]
    assert result["embedded"] is True
    page = (tmp_path / "small" / "report.html").read_text()
    body = page[page.index("<body") :]
    assert "EMBEDDED data" in body[:400]


def test_the_same_seed_gives_the_same_numbers_and_another_gives_others(run_small: Run) -> None:
    first, again, other = run_small("a"), run_small("b"), run_small("c", seed=1)
    assert timeless(first) == timeless(again)
    assert first["measured"]["accuracy"] != other["measured"]["accuracy"]


def test_a_finished_study_is_not_run_again(run_small: Run, small_study: SimpleNamespace) -> None:
    first = run_small()
    small_study.run = lambda bench, scale: pytest.fail("it ran again")
    assert run_small() == first


@pytest.mark.parametrize(("name", "given"), [("backbone", "vgg16"), ("weights", "imagenet"), ("image", "cat.png")])
def test_an_option_that_a_study_would_pass_over_is_refused(run_small: Run, name: str, given: str) -> None:
    with pytest.raises(UsageError, match=rf"The study small has no use for --{name} {given}\. .*alexnet-filters"):
        run_small(**{name: given})


def test_another_request_into_the_same_folder_is_refused_with_what_differs(run_small: Run) -> None:
    run_small()
    with pytest.raises(
        RunError, match=r"holds a result of another request \(other budget, seed\)\. Name another --out"
    ):
        run_small(seed=3, budget="standard")


def test_a_folder_with_other_things_is_left_alone(run_small: Run, tmp_path: Path) -> None:
    (tmp_path / "small").mkdir()
    (tmp_path / "small" / "thesis.txt").write_text("years")
    with pytest.raises(RunError, match="exists and holds no finished study, so nothing is written there"):
        run_small()
    assert [p.name for p in (tmp_path / "small").iterdir()] == ["thesis.txt"]


def test_a_study_that_was_stopped_goes_on_from_its_finished_parts(
    run_small: Run, small_study: SimpleNamespace, tmp_path: Path
) -> None:
    whole = small_study.run

    def stopped(bench: Bench, scale: object) -> None:
        whole(bench, scale)
        raise KeyboardInterrupt

    small_study.run = stopped
    with pytest.raises(KeyboardInterrupt):
        run_small()
    assert not (tmp_path / "small").exists()
    assert len(list((tmp_path / ".small.parts").glob("*.json"))) == 1
    small_study.run = whole
    monitored = []
    once = Bench.once

    def watch(bench: Bench, name: str, settings: object, compute: Any, **fields: Any) -> Any:
        return once(bench, name, settings, lambda: monitored.append(name), **fields)

    Bench.once, kept = watch, Bench.once
    try:
        result = run_small()
    finally:
        Bench.once = kept
    assert monitored == []
    assert timeless(result) == timeless(run_small("fresh"))


def test_a_part_gives_its_values_and_the_networks_weights_back(tmp_path: Path) -> None:
    from torch import nn

    bench = Bench(request=Request(study="small"), parts=tmp_path / "parts", cache=tmp_path)
    network, other = nn.Linear(2, 2), nn.Linear(2, 2)
    calls = []
    for net in (network, other):
        values = bench.once("x", {"a": 1}, lambda: calls.append(1) or {"n": [1, 2]}, network=net)
        assert values == {"n": [1, 2]}
    assert len(calls) == 1
    assert (network.weight == other.weight).all()
    bench.once("x", {"a": 2}, lambda: calls.append(1))
    assert len(calls) == 2


def test_an_unknown_budget_lists_those_there_are(run_small: Run) -> None:
    with pytest.raises(UsageError, match=r"There is no budget 'full'\. Known: quick, standard\."):
        run_small(budget="full")


def test_a_gpu_that_is_not_there_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    bench = Bench(request=Request(study="small", device="cuda"), parts=tmp_path, cache=tmp_path)
    with pytest.raises(UsageError, match="--device is cuda, but torch sees no GPU here. Leave it out"):
        _ = bench.device


def test_weights_that_cannot_be_had_are_stood_in_for_by_name(tmp_path: Path) -> None:
    """``auto`` without a network or a file measures the shipped encoder, and says so."""
    bench = Bench(request=Request(study="small"), parts=tmp_path, cache=tmp_path, download=False)
    assert bench.pretrained("alexnet") == ("hilum_small", "hilum")
    assert bench.networks == ["hilum_small (weights: hilum)"]
    assert bench.notes[0].startswith("The published weights of alexnet can't be had here, so the shipped hilum_small")


def test_a_network_without_weights_of_its_own_is_not_replaced_and_says_why(tmp_path: Path) -> None:
    bench = Bench(request=Request(study="small"), parts=tmp_path, cache=tmp_path, download=False)
    source, reasons = bench.own_weights("alexnet")
    assert source is None
    assert reasons[0].startswith("Published weights of alexnet are not in ")
    assert "alexnet-owt-7be5be79.pth (SHA-256 begins with 7be5be79)" in reasons[0]
    assert not bench.networks
    assert bench.own_weights("hilum_small")[0] == "hilum"


def test_weights_below_the_data_root_are_found_by_the_networks_name(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    from hilum.models.encoders import build_encoder

    (tmp_path / "weights").mkdir()
    save_file(build_encoder("squeezenet1_1", 7).state_dict(), tmp_path / "weights" / "squeezenet1_1_ours.safetensors")
    request = Request(study="small", data_dir=str(tmp_path))
    bench = Bench(request=request, parts=tmp_path, cache=tmp_path, download=False)
    name, source = bench.pretrained("squeezenet1_1")
    assert (name, Path(source).name) == ("squeezenet1_1", "squeezenet1_1_ours.safetensors")
    assert bench.networks == ["squeezenet1_1 (weights: squeezenet1_1_ours.safetensors)"]
    assert not bench.notes


def test_the_command_names_what_differs_from_the_defaults() -> None:
    request = Request(study="lenet5", seed=3, budget="standard", data_dir=str(Path.cwd().parent / "data"))
    assert command(request) == "hilum study run lenet5 --budget standard --seed 3 --data-dir ../data"


def test_numbers_say_what_their_bounds_are() -> None:
    assert share("accuracy", 99, 100).text() == "99.00\u00a0% (94.55–99.82)"
    assert over_seeds("time", [3.0, 1.0, 2.0], unit="s").text() == "2.00\u00a0s (1.00–3.00)"
    assert over_seeds("time", [3.0]).spread == "one seed"
    assert Number(name="parameters", value=61706, digits=0).text() == "61,706"
    with pytest.raises(DataError, match=r"'time' can't be summed up: its values are \[\]"):
        over_seeds("time", [])
