"""Half precision: what stays in fp32, what is refused, and the loss scaler by hand."""

from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch.nn import functional

from hilum.errors import UsageError
from hilum.progress import Lines
from hilum.training.optimisers import Optimiser
from hilum.training.precision import LossScaler, check_precision, computing_in, narrowed
from hilum.training.stages import Stage
from hilum.training.transfer import train_member

CPU = torch.device("cpu")


def test_fp16_on_a_cpu_is_refused(tiny: ModuleType, tmp_path: Path) -> None:
    """Before anything is written."""
    stages = (replace(tiny.BLOCKS[0], precision="fp16"),)
    with pytest.raises(UsageError, match="fp16 is for a GPU, but this training is on the CPU. Take bf16 or fp32"):
        train_member(tiny.classifier(), tiny.data(), stages, tiny.config(), folder=tmp_path / "m", cache=None, seed=0)
    assert not (tmp_path / "m").exists()


@pytest.mark.parametrize(
    ("hardware", "said"), [(True, "in bf16"), (False, "in bf16, which this processor only emulates: far slower")]
)
def test_slow_bf16_is_said(monkeypatch: pytest.MonkeyPatch, hardware: bool, said: str) -> None:
    monkeypatch.setattr("hilum.training.precision.has_bf16", lambda device: hardware)
    assert check_precision("bf16", CPU).startswith(said)
    assert check_precision("fp32", CPU) == ""


def test_products_alone_are_narrow() -> None:
    """And nothing is, in fp32."""
    one = torch.ones(2, 2)
    with computing_in("bf16", CPU):
        assert (one @ one).dtype == torch.bfloat16
    with computing_in("fp32", CPU):
        assert (one @ one).dtype == torch.float32


def test_maps_between_products_are_as_narrow_as_the_products() -> None:
    """Concatenation and normalisation behind narrow inputs stay in bf16; behind wide ones they would be in fp32."""
    maps, kernel = torch.randn(2, 3, 4, 4), torch.randn(3, 3, 1, 1)
    mean, variance = torch.zeros(3), torch.ones(3)
    for inputs, kept in ((maps, torch.float32), (narrowed(maps, "bf16"), torch.bfloat16)):
        with computing_in("bf16", CPU):
            normal = functional.batch_norm(inputs, mean, variance)
            both = torch.cat([inputs, functional.conv2d(normal, kernel)], 1)
        assert (normal.dtype, both.dtype) == (kept, kept)
    for precision in ("fp32", "fp16"):
        assert narrowed(maps, precision) is maps


def test_bf16_trains_near_fp32_and_keeps_fp32_weights(
    tiny: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Losses agree within bf16's 8 bits, and differ; the log says what was computed in."""
    found = {}
    for precision in ("fp32", "bf16"):
        stages = (replace(tiny.BLOCKS[1], epochs=2, precision=precision),)
        model = tiny.classifier()
        said = {"progress": Lines(), "called": f"member in {precision}"}
        history = train_member(
            model, tiny.data(), stages, tiny.config(), folder=tmp_path / precision, cache=None, seed=0, **said
        )
        found[precision] = [row["loss"] for row in history.rows] + [row["watch_loss"] for row in history.rows]
        assert {value.dtype for value in model.parameters()} == {torch.float32}
    assert found["bf16"] == pytest.approx(found["fp32"], rel=0.02)
    assert found["bf16"] != found["fp32"]
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("member in fp32, stage block: ")
    assert lines[-1].startswith("member in bf16, stage block (in bf16")


def test_scaler_by_hand() -> None:
    """A gradient that is not finite halves the factor and costs the step; many good ones double it."""
    scaler = LossScaler(CPU)
    assert scaler.scaled(torch.tensor(2.0)).item() == 2 * 2**16
    gradient = torch.tensor([2.0**16, 2.0**17])
    assert scaler.unscale([gradient])
    assert gradient.tolist() == [1.0, 2.0]
    assert not scaler.unscale([torch.tensor([1.0]), torch.tensor([torch.inf])])
    assert scaler.factor.item() == 2**15
    assert all(scaler.unscale([torch.ones(1)]) for _ in range(scaler.GROW_AFTER))
    assert scaler.factor.item() == 2**16
    assert scaler.good_steps.item() == 0


def test_fp16_step_is_the_fp32_step_and_its_factor_is_saved() -> None:
    """On values that a power of two scales exactly; a gradient that overflowed moves nothing."""
    found = {}
    for precision in ("fp32", "fp16"):
        weight = torch.tensor([1.0, 2.0], requires_grad=True)
        optimiser = Optimiser(Stage(name="x", precision=precision), {"w": weight})
        optimiser.backward((weight**2).sum())
        optimiser.step(0.1)
        found[precision] = weight.detach().clone()
    assert torch.equal(found["fp16"], found["fp32"])
    assert weight.grad is not None
    weight.grad.fill_(torch.inf)
    optimiser.step(0.1)
    assert torch.equal(weight, found["fp16"])
    saved = {name: value.clone() for name, value in optimiser.tensors().items()}
    assert saved["loss/factor"].item() == 2**15
    other = Optimiser(optimiser.stage, {"w": weight})
    other.restore(saved)
    assert other.scaler is not None
    assert other.scaler.factor.item() == 2**15
