"""A small study on the real machinery: what every study shares is tested with it."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from hilum.reports.figures import Curve, lines_figure
from hilum.reports.page import Figures, Paragraph, Section
from hilum.studies import running
from hilum.studies.bench import Bench, Request
from hilum.studies.outcome import Number, Outcome, share
from hilum.studies.table import Study
from hilum.training.fitting import Examples, FitConfig, fit_network


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """How much is done."""

    images: int = 200
    """Training images."""


def small_run(bench: Bench, scale: Scale) -> Outcome:
    """Fit a linear model to digits."""
    images = bench.images("digits", train=scale.images, test=100)
    with torch.random.fork_rng():
        torch.manual_seed(bench.seed)
        network = nn.Sequential(nn.Flatten(), nn.Linear(images.size**2, 10))
    bench.measure("a linear model (random weights)")
    train, test = images.train, images.test
    examples = Examples.of((train.images, train.labels), (test.images, test.labels), classes=10)

    def compute() -> dict[str, Any]:
        fitted = fit_network(network, examples, FitConfig(epochs=4, lr=1e-2), seed=bench.seed)
        return {"rows": list(fitted.rows), "fit_s": fitted.fit_s}

    done = bench.once("fit", scale, compute, network=network)
    accuracy = done["rows"][-1]["watch_accuracy"]
    curve = Curve(label="training", x=[1, 2, 3, 4], y=[row["loss"] for row in done["rows"]])
    figure = lines_figure([("loss", [curve])], name="loss", title="Loss", xlabel="epoch")
    return Outcome(
        numbers=(share("test accuracy", round(accuracy * 100), 100), Number(name="epochs", value=4, digits=0)),
        finding=f"The linear model reads {accuracy:.0%} of the digits.",
        sections=(Section(title="Curves", name="curves", blocks=(Paragraph("Loss."), Figures((figure,)))),),
        measured={"accuracy": accuracy, "fit_s": done["fit_s"]},
    )


@pytest.fixture
def small_study(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The small study, known to the runner as ``small``; its module may be changed."""
    module = SimpleNamespace(SCALES={"quick": Scale(), "standard": Scale(images=400)}, run=small_run)

    class Small(Study):
        def load(self) -> Any:
            return module

    row = Small(name="small", title="A small study", question="Does it run?", module="small", topic="small.md")
    monkeypatch.setattr(running, "study", lambda name: row)
    return module


@pytest.fixture
def run_small(small_study: SimpleNamespace, tmp_path: Path) -> Callable[..., dict[str, Any]]:
    def run(out: str = "small", **fields: Any) -> dict[str, Any]:
        request = Request(study="small", **fields)
        return running.run_request(request, tmp_path / out, cache=tmp_path / "cache", download=False)

    return run
