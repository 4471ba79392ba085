"""Files past the disk's cache: what is written and read is what it would be through it, and the cache stays free."""

import contextlib
import errno
import io
import mmap
import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hilum import direct_io
from hilum.direct_io import BLOCK, Buffers, DirectReader, DirectWriter, opened_past_cache, set_direct

ROOM = 4 * BLOCK
SIZES = (0, 1, BLOCK - 1, BLOCK, BLOCK + 1, ROOM - 1, ROOM, ROOM + 1, 3 * ROOM + 5)


def bytes_of(size: int, seed: int = 0) -> bytes:
    return random.Random(seed).randbytes(size)


@contextlib.contextmanager
def new_file(path: Path) -> Iterator[io.FileIO]:
    with io.FileIO(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL), "wb") as file:
        yield file


def write(writer: DirectWriter, content: bytes, piece: int) -> None:
    for at in range(0, len(content), piece):
        rest = memoryview(content)[at : at + piece]
        while rest:
            rest = rest[writer.write(rest) :]
    writer.flush()


def can_go_past(folder: Path) -> bool:
    """Whether files there can."""
    with new_file(folder / "probe") as file:
        return bool(direct_io.PAST_CACHE) and set_direct(file.fileno(), True)


def cached(path: Path) -> bool:
    """Whether the first block lies in the disk's cache; skips the test where nobody tells (tmpfs, overlayfs)."""
    if not hasattr(os, "RWF_NOWAIT"):
        pytest.skip("this system doesn't tell what lies in the cache")
    with open(path, "rb") as file:
        try:
            return os.preadv(file.fileno(), [bytearray(BLOCK)], 0, os.RWF_NOWAIT) > 0
        except BlockingIOError:
            return False
        except OSError as error:
            if error.errno != errno.EOPNOTSUPP:
                raise
            pytest.skip("this file system doesn't tell what lies in the cache")


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("piece", [1000, BLOCK, ROOM + 7])
def test_a_file_holds_what_was_written(tmp_path: Path, size: int, piece: int) -> None:
    content, memory = bytes_of(size), mmap.mmap(-1, ROOM)
    with new_file(tmp_path / "film") as file:
        writer = DirectWriter(file, lambda: memory)
        write(writer, content, piece)
    assert (tmp_path / "film").read_bytes() == content
    assert writer.whole == (0 < size <= ROOM)
    assert not writer.whole or memory[:size] == content


def test_whole_blocks_go_past_the_cache(tmp_path: Path) -> None:
    for name, buffer in (("past", mmap.mmap(-1, ROOM)), ("through", None)):
        with new_file(tmp_path / name) as file:
            write(DirectWriter(file, lambda buffer=buffer: buffer), bytes_of(3 * BLOCK), 1000)  # type: ignore[misc]
            os.fsync(file.fileno())
    assert cached(tmp_path / "through")
    assert cached(tmp_path / "past") != can_go_past(tmp_path)


def test_without_a_buffer_nothing_waits_and_nothing_is_whole(tmp_path: Path) -> None:
    with new_file(tmp_path / "film") as file:
        writer = DirectWriter(file, lambda: None)
        assert not writer.waits(1 << 30)
        write(writer, b"film", 2)
        assert not writer.whole
    assert (tmp_path / "film").read_bytes() == b"film"


def test_it_says_when_more_would_wait_for_the_disk(tmp_path: Path) -> None:
    with new_file(tmp_path / "film") as file:
        writer = DirectWriter(file, lambda: mmap.mmap(-1, ROOM))
        assert writer.waits(ROOM + 1)
        assert not writer.waits(ROOM)
        writer.write(memoryview(bytes(ROOM - 1)))
        assert not writer.waits(1)
        assert writer.waits(2)


class Odd(io.RawIOBase):
    """A file that answers some writes as told."""

    def __init__(self, file: io.FileIO, answers: list[Any]) -> None:
        self.file, self.answers = file, answers

    def fileno(self) -> int:
        return self.file.fileno()

    def write(self, content: Any, /) -> int:
        answer = self.answers.pop(0) if self.answers else None
        if isinstance(answer, OSError):
            raise answer
        return self.file.write(content[:answer]) if answer else self.file.write(content)


@pytest.mark.parametrize("answers", [[OSError(errno.EINVAL, "")], [100], [BLOCK, 100], [BLOCK]], ids=str)
def test_a_disk_that_wants_other_multiples_gets_the_rest_through_the_cache(tmp_path: Path, answers: list[Any]) -> None:
    content = bytes_of(3 * BLOCK + 5)
    with new_file(tmp_path / "film") as file:
        write(DirectWriter(Odd(file, answers), lambda: mmap.mmap(-1, ROOM)), content, 1000)
    assert (tmp_path / "film").read_bytes() == content


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
def test_a_disk_that_fails_is_told(tmp_path: Path, code: int) -> None:
    with new_file(tmp_path / "film") as file, pytest.raises(OSError, match="Errno") as caught:
        write(DirectWriter(Odd(file, [OSError(code, "")]), lambda: mmap.mmap(-1, ROOM)), bytes(BLOCK), BLOCK)
    assert caught.value.errno == code


@pytest.fixture(params=["past", "no buffer", "refused"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Readers with a small buffer, without one, and on a file system that refuses."""
    monkeypatch.setattr(
        direct_io, "FOR_READING", Buffers(0 if request.param == "no buffer" else 2, lambda: mmap.mmap(-1, ROOM))
    )
    if request.param == "refused":
        real, refused = os.preadv, []

        def preadv(descriptor: int, buffers: Any, offset: int) -> int:
            if direct_io.fcntl.fcntl(descriptor, direct_io.fcntl.F_GETFL) & direct_io.PAST_CACHE:
                refused.append(descriptor)
                raise OSError(errno.EINVAL, "")
            return real(descriptor, buffers, offset)

        monkeypatch.setattr(direct_io.os, "preadv", preadv)
    return str(request.param)


@pytest.mark.parametrize("size", SIZES)
def test_what_is_read_is_what_lies_there(tmp_path: Path, way: str, size: int) -> None:
    content, path = bytes_of(size), tmp_path / "film"
    path.write_bytes(content)
    for _ in range(2):  # the buffer is given back
        with DirectReader(path) as reader:
            assert bytes(reader.first(size)) == content
        with opened_past_cache(path, 1000) as stream:
            assert stream.read(40) == content[:40]
            stream.seek(0)
            assert stream.read() == content
    random_places = random.Random(size)
    with DirectReader(path) as raw, open(path, "rb") as plain:
        for _ in range(50):
            at, count = random_places.randrange(size + 2), random_places.randrange(2 * BLOCK)
            assert raw.seek(at) == plain.seek(at)
            assert raw.read(count) == plain.read(min(count, ROOM - at % BLOCK))
        assert raw.seek(0, io.SEEK_END) == size


def test_first_bytes_lie_where_nobody_can_write_and_are_all_there_are(tmp_path: Path) -> None:
    (tmp_path / "film").write_bytes(bytes_of(5000))
    with DirectReader(tmp_path / "film") as reader:
        first = reader.first(9000)
        assert bytes(first) == bytes_of(5000)
        with pytest.raises(TypeError):
            first[0] = 1  # type: ignore[index]


def test_reading_leaves_the_cache_free(tmp_path: Path) -> None:
    left = []
    for name in "abcde":  # the system may bring one of them into the cache by itself
        with new_file(tmp_path / name) as file:
            write(DirectWriter(file, lambda: mmap.mmap(-1, ROOM)), bytes_of(3 * BLOCK), BLOCK)
            os.fsync(file.fileno())
        with opened_past_cache(tmp_path / name, BLOCK) as stream:
            assert stream.read() == bytes_of(3 * BLOCK)
        left.append(cached(tmp_path / name))
    assert (False in left) == can_go_past(tmp_path)


def test_who_reads_on_asks_for_more_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Past the cache nobody else reads ahead; who wants the first bytes alone reads no others."""
    if not can_go_past(tmp_path):
        pytest.skip("no file here goes past the cache")
    path, asked, real = tmp_path / "film", list[int](), os.preadv
    path.write_bytes(content := bytes_of(600 * BLOCK + 5))

    def preadv(descriptor: int, buffers: Any, offset: int) -> int:
        asked.append(sum(map(len, buffers)))
        return real(descriptor, buffers, offset)

    monkeypatch.setattr(direct_io.os, "preadv", preadv)
    with opened_past_cache(path, 8 * BLOCK) as stream:
        assert stream.read(40) == content[:40]
        assert asked == [8 * BLOCK]
        assert stream.read() == content[40:]
    assert len(asked) < 12
    assert max(asked) <= direct_io.AT_ONCE


def test_buffers_are_used_again_and_end() -> None:
    made: list[object] = []
    buffers = Buffers(2, lambda: made.append(object()) or made[-1])
    first, second = buffers.take(), buffers.take()
    assert (first, second) == tuple(made)
    assert buffers.take() is None
    assert second is not None
    buffers.give_back(second)
    assert buffers.take() is second


def test_where_no_buffer_can_be_made_there_is_none_until_one_can() -> None:
    """Short of descriptors or memory for a moment, a process does without; not for the rest of its life."""
    short = [True]

    def make() -> object:
        if short[0]:
            raise OSError(errno.EMFILE, "")
        return object()

    buffers = Buffers(2, make)
    assert [buffers.take() for _ in range(3)] == [None] * 3
    short[0] = False
    assert [buffers.take() is None for _ in range(3)] == [False, False, True]


def test_a_reader_that_could_not_be_opened_can_be_let_go_of(tmp_path: Path) -> None:
    """Its finalizer closes it, which newer Pythons complain of where that fails."""
    reader = DirectReader.__new__(DirectReader)
    with pytest.raises(FileNotFoundError):
        reader.__init__(tmp_path / "none")  # type: ignore[misc]
    reader.close()
