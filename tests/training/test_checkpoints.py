"""Checkpoints: whole, without pickle, and of one training only."""

from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from hilum.errors import RunError
from hilum.training.checkpoints import load_checkpoint, save_checkpoint

FACTS = {"fingerprint": "f" * 64, "epoch": 3, "loss": 0.1 + 0.2}


def save(path: Path) -> None:
    turned = torch.arange(6.0).reshape(2, 3).t()
    save_checkpoint(path, {"model": {"a.b": turned, "step": torch.zeros(())}, "best": {}}, FACTS)


def test_comes_back_equal(tmp_path: Path) -> None:
    """Tensors by group, and numbers to the last bit."""
    save(tmp_path / "c.safetensors")
    back = load_checkpoint(tmp_path / "c.safetensors", "f" * 64)
    assert back is not None
    assert back.facts == FACTS
    assert back.group("model")["a.b"].tolist() == [[0, 3], [1, 4], [2, 5]]
    assert back.group("best") == {}
    assert [path.name for path in tmp_path.iterdir()] == ["c.safetensors"]


def test_any_reader_of_safetensors_opens_it(tmp_path: Path) -> None:
    save(tmp_path / "c.safetensors")
    with safe_open(tmp_path / "c.safetensors", framework="np") as handle:
        assert sorted(handle.keys()) == ["model:a.b", "model:step"]


def test_absent_is_none(tmp_path: Path) -> None:
    assert load_checkpoint(tmp_path / "c.safetensors", "f") is None


def test_of_another_training_is_refused(tmp_path: Path) -> None:
    save(tmp_path / "c.safetensors")
    with pytest.raises(RunError, match="belongs to another config, other data or other starting weights"):
        load_checkpoint(tmp_path / "c.safetensors", "0" * 64)


@pytest.mark.parametrize("damage", ["empty", "cut", "text", "no facts"])
def test_damaged_is_refused(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "c.safetensors"
    save(path)
    whole = path.read_bytes()
    damaged = {"empty": b"", "cut": whole[:-8], "text": b"x" * 100, "no facts": whole.replace(b'"hilum"', b'"other"')}
    path.write_bytes(damaged[damage])
    with pytest.raises(RunError, match="can't be read .* Remove it to start this training anew"):
        load_checkpoint(path, "f" * 64)
