"""Where networks are computed: by name, refused where it is not there, and a GPU of its own for each process."""

import pytest
import torch

from hilum.errors import UsageError
from hilum.training.device import choose_device, device_in_words, own_device
from hilum.training.ranks import Ranks

CUDA = torch.device("cuda")


@pytest.mark.parametrize(
    ("wanted", "there", "chosen"), [("auto", True, "cuda"), ("auto", False, "cpu"), ("cpu", True, "cpu")]
)
def test_auto_takes_a_gpu_where_there_is_one(
    wanted: str, there: bool, chosen: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: there)
    assert choose_device(wanted) == torch.device(chosen)


def test_a_gpu_that_is_not_there_and_an_unknown_name_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(UsageError, match="--device is cuda, but torch sees no GPU here. Leave it out, or give"):
        choose_device("cuda")
    with pytest.raises(UsageError, match=r"There is no device 'cud'. Did you mean 'cuda'\?"):
        choose_device("cud")


def test_each_of_several_processes_takes_a_gpu_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two GPUs: the second process of the machine takes the second, a third is refused; the CPU is shared by all."""
    taken: list[torch.device] = []
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.setattr("torch.cuda.set_device", taken.append)
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert own_device(CUDA, Ranks(rank=5, world=6)) == torch.device("cuda", 1)
    assert taken == [torch.device("cuda", 1)]
    assert own_device(CUDA) == CUDA
    monkeypatch.setenv("LOCAL_RANK", "2")
    assert own_device(torch.device("cpu"), Ranks(rank=2, world=3)) == torch.device("cpu")
    with pytest.raises(UsageError, match="Process 3 on this machine has no GPU of its own: there are 2. Start 2 at"):
        own_device(CUDA, Ranks(rank=2, world=3))


def test_the_cpu_is_named_as_it_is() -> None:
    assert device_in_words(torch.device("cpu")) == "cpu"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_a_gpu_is_named_with_its_model() -> None:
    assert device_in_words(CUDA) == f"cuda ({torch.cuda.get_device_name(CUDA)})"
