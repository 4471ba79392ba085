"""Pictures kept in memory: drawn once however many ask, and what goes wrong is told to all of them."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from hilum.errors import FilmError
from hilum.service.pictures import PictureCache


def test_of_those_who_ask_at_once_one_draws() -> None:
    cache, drawn, go = PictureCache(), [], threading.Event()

    def draw() -> bytes:
        drawn.append(1)
        assert go.wait(120)
        return b"picture"

    with ThreadPoolExecutor(3) as pool:
        asked = [pool.submit(cache.get, ("film",), draw) for _ in range(3)]
        go.set()
        assert [one.result(120) for one in asked] == [b"picture"] * 3
    assert cache.get(("film",), draw) == b"picture"
    assert drawn == [1]


def test_a_film_that_cant_be_drawn_fails_for_all_and_is_tried_again() -> None:
    cache = PictureCache()

    def fail() -> bytes:
        raise FilmError("It is cut off.", code="cut-off")

    for _ in range(2):
        with pytest.raises(FilmError, match="cut off"):
            cache.get(("film",), fail)
    assert cache.get(("film",), lambda: b"mended") == b"mended"


def test_the_oldest_go_first_when_there_is_no_room() -> None:
    cache = PictureCache(largest=10)
    for name in ("a", "b", "a", "c"):
        cache.get((name,), lambda: b"12345")
    assert cache.get(("a",), lambda: b"new") == b"12345"
    assert cache.get(("b",), lambda: b"again") == b"again"
