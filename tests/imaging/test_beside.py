"""Two things at a time give what they give one after the other."""

import threading

import numpy as np
import pytest

from hilum.imaging import beside as module
from hilum.imaging import pixel_order, reading
from hilum.imaging.beside import beside
from hilum.imaging.dicom_writing import FilmHeader, film_bytes
from hilum.imaging.intended_use import GatePolicy
from hilum.imaging.preprocessing import Preprocessing
from hilum.imaging.sandbox import Sandbox
from hilum.inference.preparing import prepare_film


@pytest.fixture(autouse=True)
def _two_processors(monkeypatch):
    monkeypatch.setattr(module, "_processors", lambda: 2)


def test_the_second_runs_in_a_thread_of_its_own():
    """Each waits for the other, so neither would end if they ran one after the other."""
    meeting = threading.Barrier(2, timeout=120)

    def meet():
        meeting.wait()
        return threading.get_ident()

    first, second = beside(meet, meet, worth_it=True)
    assert first == threading.get_ident() != second


@pytest.mark.parametrize("processors", [1, 2])
def test_what_gains_nothing_stays_in_one_thread(monkeypatch, processors):
    """Small work, or one processor."""
    monkeypatch.setattr(module, "_processors", lambda: processors)
    found = beside(lambda: 1, threading.get_ident, worth_it=processors == 1)
    assert found == (1, threading.get_ident())


def _fail(kind):
    raise kind("broken")


@pytest.mark.parametrize("worth_it", [True, False])
def test_errors_of_either_arrive(worth_it):
    """The first one's error counts when both fail."""
    with pytest.raises(ValueError, match="broken"):
        beside(lambda: 1, lambda: _fail(ValueError), worth_it=worth_it)
    with pytest.raises(KeyError, match="broken"):
        beside(lambda: _fail(KeyError), lambda: _fail(ValueError), worth_it=worth_it)


def test_without_room_for_a_thread_they_run_one_after_the_other(monkeypatch):
    """As in a sandbox that is nearly full."""
    monkeypatch.setattr(threading.Thread, "start", lambda self: _fail(RuntimeError))
    assert beside(lambda: 1, threading.get_ident, worth_it=True) == (1, threading.get_ident())


def test_a_film_is_prepared_alike_either_way(monkeypatch):
    """Tile, measures and digest are the same bits, here and in a sandbox's child."""
    stored = np.random.default_rng(0).integers(0, 4096, (1024, 1024)).astype(np.uint16)
    content, _ = film_bytes(stored, FilmHeader(bits_stored=12))
    config, policy = Preprocessing(size=64), GatePolicy()
    plain = prepare_film(content, config, policy)
    monkeypatch.setattr(pixel_order, "LARGE", 1)
    monkeypatch.setattr(reading, "HASHED_BESIDE", 1)
    together = prepare_film(content, config, policy)
    with Sandbox(1, preload=("hilum.inference.preparing",)) as sandbox:
        in_child = sandbox.run(prepare_film, content, config, policy)
    for other in (together, in_child):
        np.testing.assert_array_equal(other.tile, plain.tile)
        assert (other.quality, other.sha256, other.facts) == (plain.quality, plain.sha256, plain.facts)
