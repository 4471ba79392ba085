"""Who speaks when several processes train together."""

import pytest

from hilum.cli.train import speaks


def test_of_several_processes_the_first_one_speaks(monkeypatch: pytest.MonkeyPatch) -> None:
    """torchrun numbers them in RANK; without it there is one."""
    monkeypatch.delenv("RANK", raising=False)
    assert speaks()
    for rank, told in (("0", True), ("1", False)):
        monkeypatch.setenv("RANK", rank)
        assert speaks() is told
