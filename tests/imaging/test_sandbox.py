"""A bad film harms only the child that decodes it."""

import math
import mmap
import os
import socket
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from pydicom.data import get_testdata_file

from hilum.config import from_mapping
from hilum.errors import ConfigError, DataError, FilmError, UsageError
from hilum.imaging import sandbox as module
from hilum.imaging import wire
from hilum.imaging.preprocessing import Preprocessing
from hilum.imaging.reading import read_film
from hilum.imaging.sandbox import Sandbox
from hilum.shared_memory import Lent, SharedMemory


def reply(tree, blobs=b""):
    return wire.LENGTH.pack(len(tree)) + tree.encode() + blobs


FILM = get_testdata_file("MR_small.dcm", download=False)


@pytest.fixture(scope="module")
def sandbox():
    # Nothing is imported beforehand, so that the many children that die here are soon replaced.
    with Sandbox(2, memory_mb=600, wall_s=60.0, preload=()) as opened:
        yield opened


def fails(box, function, *args):
    with pytest.raises(FilmError) as caught:
        box.run(function, *args)
    # The next call finds a fresh child.
    assert box.run(abs, -3) == 3
    return caught.value


def test_film_comes_back_as_it_is(sandbox):
    """The child's Radiograph equals one read here."""
    ours, theirs = read_film(FILM), sandbox.run(read_film, FILM)
    np.testing.assert_array_equal(theirs.pixels, ours.pixels)
    assert (theirs.facts, theirs.sha256, theirs.flags) == (ours.facts, ours.sha256, ours.flags)


def test_bytes_go_in_whole(sandbox):
    """Twenty megabytes travel to the child and back."""
    content = os.urandom(1 << 20) * 20
    assert sandbox.run(bytes, content) == content


def test_lent_memory_is_read_where_it_lies():
    """The child reads what its parent writes, call after call, and keeps no file open."""
    memory, opened = SharedMemory(mmap.PAGESIZE), []
    with Sandbox(1, preload=()) as box:
        for number in range(30):
            memory.memory[:2] = b"%02d" % number
            assert box.run(Lent.content, Lent(descriptor=memory.descriptor, size=2)) == b"%02d" % number
            opened.append(len(box.run(os.listdir, "/proc/self/fd")))
    assert set(opened) == {opened[0]}


def test_film_error_keeps_its_code(sandbox):
    """What the reader refuses is refused here in the same words."""
    error = fails(sandbox, read_film, b"not a film")
    assert error.code == "not-an-image"
    assert "neither DICOM" in str(error)


def test_other_errors_of_ours_keep_their_text(sandbox):
    """A HilumError that is no FilmError arrives as a DataError with the same sentence."""
    with pytest.raises(DataError, match="unknown key 'colour'"):
        sandbox.run(from_mapping, Preprocessing, {"colour": 1})
    with pytest.raises(ConfigError, match="unknown key 'colour'"):
        from_mapping(Preprocessing, {"colour": 1})


@pytest.mark.parametrize(("function", "args", "match"), [(os.abort, (), "SIGABRT"), (os._exit, (3,), "exit 3")])
def test_crash(sandbox, function, args, match):
    """A child that dies is reported with how, and replaced."""
    error = fails(sandbox, function, *args)
    assert error.code == "crashed"
    assert match in str(error)


def test_exception_that_is_not_ours(sandbox):
    """A fault in the function is a crash that names its kind; the trace travels as the cause."""
    error = fails(sandbox, int, "x")
    assert error.code == "crashed"
    assert "(ValueError)" in str(error)
    assert "invalid literal" in str(error.__cause__)


def test_out_of_memory(sandbox):
    """Address space is limited; 8 GB are refused at once, 8 MB are not."""
    assert fails(sandbox, np.ones, 10**9).code == "out-of-memory"
    assert sandbox.run(np.ones, 10**6).nbytes == 8 * 10**6


def _new_pages(box):
    """Pages that the child had to be given so far (proc(5): minflt)."""
    return int(box.run(Path.read_text, Path("/proc/self/stat")).rpartition(")")[2].split()[7])


@pytest.mark.skipif(sys.platform != "linux", reason="it is glibc's way with memory, counted in /proc")
def test_freed_memory_is_kept_for_the_next_film():
    """A second array of 8 MB needs next to no new pages; given back and asked for again it would need 2,000."""
    with Sandbox(1, preload=("numpy",)) as box:
        for _ in range(3):
            box.run(np.ones, 10**6)
        before = _new_pages(box)
        box.run(np.ones, 10**6)
        assert _new_pages(box) - before < 1000


def test_hang_is_killed():
    """A call that sleeps is stopped at the wall limit."""
    with Sandbox(1, wall_s=0.3, preload=()) as box:
        started = time.monotonic()
        with pytest.raises(FilmError, match=r"longer than the 0\.3 s allowed") as caught:
            box.run(time.sleep, 600)
        assert caught.value.code == "timeout"
        assert time.monotonic() - started < 300


def test_processor_time_is_limited():
    """A loop in C that no signal handler of Python's can reach is killed by the kernel."""
    with Sandbox(1, cpu_s=1, wall_s=120, preload=()) as box:
        with pytest.raises(FilmError, match="used up the 1 s of processor time") as caught:
            box.run(math.factorial, 10**8)
        assert caught.value.code == "timeout"


def test_many_threads_at_once(sandbox):
    """Twenty threads share two children, good and bad films mixed; each gets its own answer."""
    answers = {}

    def call(i):
        try:
            answers[i] = sandbox.run(os._exit, 1) if i % 5 == 4 else sandbox.run(pow, i, 2)
        except FilmError as error:
            answers[i] = error.code

    threads = [threading.Thread(target=call, args=(i,)) for i in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == {i: "crashed" if i % 5 == 4 else i * i for i in range(20)}


def test_map_yields_results_and_errors(sandbox):
    """One bad item of many is an error in its place; the rest goes on."""
    found = dict(sandbox.map(read_film, [(FILM,), (b"",), (FILM,)]))
    assert found[0].shape == found[2].shape == (64, 64)
    assert isinstance(found[1], FilmError)
    assert found[1].code == "empty"


def test_map_ends_in_the_order_of_ending():
    """A slow first item doesn't hold back a quick second one."""
    with Sandbox(2, preload=()) as box:
        list(box.map(abs, [(1,), (2,)]))  # both children are up
        assert [index for index, _ in box.map(time.sleep, [(1.5,), (0.01,)])] == [1, 0]


def test_child_inherits_no_environment(sandbox, monkeypatch):
    """A secret of the parent's environment isn't in the child's."""
    monkeypatch.setenv("HILUM_SECRET", "canary")
    with Sandbox(1, preload=()) as box:
        assert box.run(os.getenv, "HILUM_SECRET") is None
        assert box.run(os.getenv, "OMP_NUM_THREADS") == "1"


def test_child_writes_no_files(sandbox, tmp_path):
    """A decoder has nothing to write: the file stays empty."""
    error = fails(sandbox, Path.write_bytes, tmp_path / "out", b"x" * 10_000)
    assert "(OSError)" in str(error)


@pytest.mark.parametrize(("function", "args"), [(object, ()), (os.stat, ("/",)), (range, (3,))])
def test_only_data_comes_out(sandbox, function, args):
    """Objects that are not on the closed list stay in the sandbox."""
    error = fails(sandbox, function, *args)
    assert error.code == "crashed"
    assert "may not cross" in str(error.__cause__)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\0" * 8,
        wire.LENGTH.pack(1 << 40),
        reply('{"function": ["os", "system"]}'),
        reply('{"dataclass": ["subprocess", "Popen", {}]}'),
        reply('{"dataclass": ["hilum.files", "write_bytes", {}]}'),
        reply('{"dataclass": ["hilum.imaging.radiograph", "FilmFacts", {"other": 1}]}'),
        reply('{"array": ["O", [1], 0, 8, false]}', b"\0" * 8),
        reply('{"array": ["<u2", [5], 0, 10, false]}', b"\0" * 8),
        reply('{"array": ["<u2", [-1], 0, 0, false]}'),
        reply('{"bytes": [-4, 4]}', b"\0" * 8),
        reply('{"pickle": "x"}'),
        reply('{"tuple": [], "set": []}'),
        reply("[" * 100_000),
    ],
    ids=lambda content: content[8:40].decode() or str(len(content)),
)
def test_hostile_replies_are_refused(content):
    """A child that was taken over can't make the parent import, call or read beyond."""
    with pytest.raises(FilmError, match="may not leave it"):
        module._load(content)


@pytest.mark.parametrize("value", [[], 1, ()])
def test_reply_that_is_no_reply(value):
    """A value of the right kind in the wrong shape is refused."""
    with pytest.raises(FilmError, match="answer is not one"):
        module._load(wire.encode(value))


def answering(box, said, monkeypatch):
    """A ready child whose place a socket has taken that says this."""
    child = box._idle.get()
    child._receive(time.monotonic() + 60)
    child.ready = True
    ours, theirs = socket.socketpair()
    theirs.sendall(said)
    monkeypatch.setattr(child, "socket", ours)
    return child, theirs


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (module.HEADER.pack(1 << 40), "larger than its memory"),
        (module.HEADER.pack(2) + b"abc", "goes on after its end"),
        (module.HEADER.pack(3) + b"abc", "holds something that may not leave it"),
    ],
)
def test_reply_that_is_none(said, told, monkeypatch):
    """An announced size beyond the child's memory is not waited for, and nothing may follow an answer."""
    with Sandbox(1, memory_mb=64, preload=()) as box:
        with monkeypatch.context() as patch:
            child, theirs = answering(box, said, patch)
            with theirs, child.socket, pytest.raises(FilmError, match=told):
                child.ask(wire.encode((abs, (1,))))
        box._idle.put(child)


@pytest.mark.parametrize("size", [0, 1, module.USUAL_BYTES - 100, module.USUAL_BYTES, 3 * module.USUAL_BYTES])
def test_reply_of_any_length(sandbox, size):
    """Whether or not it fits what is asked for at once."""
    assert sandbox.run(bytes, size) == bytes(size)


def test_closed_sandbox():
    """Outside the with block there is no child to ask."""
    box = Sandbox(1, preload=())
    with pytest.raises(UsageError, match="not open"):
        box.run(abs, 1)
    with box, pytest.raises(UsageError, match="open already"):
        box.__enter__()
    with pytest.raises(UsageError, match="not open"):
        box.run(abs, 1)


def test_wrong_limits():
    """Numbers must be positive."""
    with pytest.raises(UsageError, match="workers=0"):
        Sandbox(0)


def test_closing_ends_calls_under_way():
    """A call that waits in a child ends as crashed when the sandbox is closed."""
    box = Sandbox(1, wall_s=60, preload=())
    ended = []
    with box:
        box.run(abs, 1)

        def call():
            try:
                box.run(time.sleep, 60)
            except (FilmError, UsageError) as error:
                ended.append(error)

        thread = threading.Thread(target=call)
        thread.start()
        while not box._idle.empty():  # until it has the child
            time.sleep(0.001)
    thread.join(120)
    assert not thread.is_alive()
    assert isinstance(ended[0], FilmError)
    assert ended[0].code == "crashed"


def test_a_socket_stays_open_while_somebody_may_still_read_it(monkeypatch):
    """Else its number is taken by whatever is opened next, whose bytes a call under way would take for its answer."""
    asked, may_read, told = threading.Event(), threading.Event(), []
    receive = module._Child._receive

    def slowly(child, deadline):
        if child.ready:
            asked.set()
            assert may_read.wait(60)
        return receive(child, deadline)

    monkeypatch.setattr(module._Child, "_receive", slowly)

    def call(box):
        with pytest.raises(FilmError) as caught:
            box.run(time.sleep, 60)
        told.append(caught.value.code)

    with Sandbox(2, preload=()) as box:
        children = set(box._children)
        caller = threading.Thread(target=call, args=[box])
        caller.start()
        assert asked.wait(60)
        box.close()
        assert sorted(child.socket.fileno() == -1 for child in children) == [False, True]
        may_read.set()
        caller.join(60)
    assert told == ["crashed"]
    assert all(child.socket.fileno() == -1 for child in children)


def test_a_worker_is_added_while_it_is_open():
    """The added child is a process of its own, and takes calls beside the first."""
    with Sandbox(1, memory_mb=600, wall_s=60.0, preload=()) as box:
        box.add_worker()
        first, second = box._idle.get(), box._idle.get()
        assert first.process.pid != second.process.pid
        for child in (first, second):
            box._idle.put(child)
        assert [box.run(abs, -3), box.run(abs, -4)] == [3, 4]
        assert box.workers == 2
