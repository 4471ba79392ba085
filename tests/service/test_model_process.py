"""The model in a process of its own: what kills, hangs or starves it costs a restart, and not an answer."""

import contextlib
import os
import resource
import signal
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.bundle.small import small_bundle

from hilum.bundle.reading import read_bundle
from hilum.errors import BundleError, UsageError
from hilum.inference.runtimes import OnnxRuntime
from hilum.inference.selftest import self_test
from hilum.service import child_process
from hilum.service.answering import ModelDied
from hilum.service.child_process import ChildDied
from hilum.service.child_wire import receive
from hilum.service.model_process import ModelLimits, ModelProcess


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_bundle(tmp_path_factory.mktemp("bundle") / "small.hilum")


@pytest.fixture(scope="module")
def digest(bundle: Path) -> str:
    return read_bundle(bundle).sha256


@pytest.fixture(scope="module")
def process(bundle: Path, digest: str) -> Iterator[ModelProcess]:
    with ModelProcess(bundle, sha256=digest, limits=ModelLimits(threads=1, wall_s=30)) as started:
        yield started


def tiles(count: int, size: int) -> np.ndarray:
    return np.random.default_rng(count).integers(0, 256, (count, 1, size, size), np.uint8)


def test_it_answers_as_the_runtime_does_bit_for_bit(bundle: Path, process: ModelProcess) -> None:
    opened = read_bundle(bundle)
    size = opened.info.preprocessing.size
    here = OnnxRuntime(opened.model, 1)
    for count in (1, 3, 8, 11):
        there, mine = process.run(tiles(count, size)), here.run(tiles(count, size)[:8])
        for name, values in mine.as_mapping().items():
            assert np.array_equal(there[name][:8], values), name
        assert len(there) == count
    assert (process.name, process.precision, process.threads) == (here.name, "fp32", 1)
    assert self_test(opened, process).passed


def test_a_killed_process_is_replaced_and_the_batch_can_be_tried_again(bundle: Path, process: ModelProcess) -> None:
    size = read_bundle(bundle).info.preprocessing.size
    before, restarts = process.run(tiles(2, size)), process.restarts
    with process._kept.lock:  # so that the batch meets it, and not the watchdog
        send(process, signal.SIGKILL)
        with pytest.raises(ModelDied, match=r"The model's process ended \(SIGKILL\)"):
            process.run(tiles(2, size))
    assert np.array_equal(process.run(tiles(2, size)).logits, before.logits)
    assert process.restarts == restarts + 1
    assert process.trouble is None


def test_the_watchdog_replaces_one_that_died_while_nobody_asked(process: ModelProcess) -> None:
    old, restarts = process.process_id, process.restarts
    send(process, signal.SIGKILL)
    until(lambda: process.restarts > restarts)
    assert process.process_id not in (None, old)


def test_a_process_that_hangs_over_a_batch_is_stopped(bundle: Path, digest: str) -> None:
    size = read_bundle(bundle).info.preprocessing.size
    with ModelProcess(bundle, sha256=digest, limits=ModelLimits(threads=1, wall_s=1.0)) as process:
        with process._kept.lock:
            send(process, signal.SIGSTOP)
            until(lambda: all(state == "T" for state in states(process)))  # threads stop one after the other
            with pytest.raises(ModelDied, match="took longer than 1 s to answer a batch, and was stopped"):
                process.run(tiles(1, size))
        process._limits = ModelLimits(threads=1)  # its answer may take a busy machine longer
        assert len(process.run(tiles(1, size))) == 1


def test_two_batches_are_in_it_at_once_and_get_their_own_answers(bundle: Path, digest: str) -> None:
    opened = read_bundle(bundle)
    size, here = opened.info.preprocessing.size, OnnxRuntime(opened.model, 1)
    with (
        ModelProcess(bundle, sha256=digest, limits=ModelLimits(threads=2)) as process,
        ThreadPoolExecutor(4) as pool,
    ):
        counts = [1 + i % 8 for i in range(64)]
        answers = list(pool.map(lambda count: process.run(tiles(count, size)), counts))
        for count, answer in zip(counts, answers, strict=True):
            for name, values in here.run(tiles(count, size)).as_mapping().items():
                assert np.array_equal(answer[name], values), name
        assert process.restarts == 0


def test_what_ends_it_is_told_to_both_batches_and_replaced_once(
    bundle: Path, digest: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = tiles(1, read_bundle(bundle).info.preprocessing.size)
    with hanging(bundle, digest, monkeypatch, wall_s=120.0) as (process, pool):
        runs = [pool.submit(process.run, one) for _ in range(2)]
        until(lambda: process._kept._asked == 2)
        send(process, signal.SIGKILL)
        for run in runs:
            with pytest.raises(ModelDied, match=r"ended \(SIGKILL\)"):
                run.result(120)


def test_its_sockets_stay_open_while_somebody_may_still_read_them(
    bundle: Path, digest: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else their numbers are taken by the next child's, and who was about to read gets that one's words, or none."""
    size = read_bundle(bundle).info.preprocessing.size
    about_to_read, may_read = threading.Event(), threading.Event()

    def slowly(connection: socket.socket, most_descriptors: int = 0) -> tuple[int, Any, list[int]]:
        if threading.current_thread().name == "slow":
            number = connection.fileno()
            about_to_read.set()
            assert may_read.wait(60)
            assert connection.fileno() == number
        return receive(connection, most_descriptors)

    monkeypatch.setattr(child_process, "receive", slowly)
    with hanging(bundle, digest, monkeypatch, wall_s=120.0) as (process, _):
        child = process._kept.child
        assert child is not None
        told: list[str] = []

        def ask() -> None:
            try:
                process.run(tiles(1, size))
            except ModelDied as error:
                told.append(str(error))

        slow = threading.Thread(target=ask, name="slow")
        slow.start()
        assert about_to_read.wait(60)
        process._kept.replace("another batch ended it", child)
        assert len(process.run(tiles(1, size))) == 1
        may_read.set()
        slow.join(60)
        assert told == ["The model's process ended (SIGKILL)."]
        assert [line.fileno() for line in (child.process._socket, *child.process._lines)] == [-1] * 3
        with pytest.raises(ChildDied, match="ended"):
            child.process.beat(1)


def test_a_batch_that_hangs_is_stopped_and_the_one_beside_it_need_not_wait_as_long(
    bundle: Path, digest: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = tiles(1, read_bundle(bundle).info.preprocessing.size)
    with hanging(bundle, digest, monkeypatch, wall_s=6.0) as (process, pool):
        first = pool.submit(process.run, one)
        until(lambda: process._kept._asked == 1)
        process._limits = ModelLimits(threads=1, wall_s=600.0)  # of the second, which comes within the first one's
        second = pool.submit(process.run, one)
        with pytest.raises(ModelDied, match="took longer than 6 s"):
            first.result(120)
        with pytest.raises(ModelDied, match=r"ended \(SIGKILL\)"):
            second.result(120)


@contextlib.contextmanager
def hanging(
    bundle: Path, digest: str, monkeypatch: pytest.MonkeyPatch, *, wall_s: float
) -> Iterator[tuple[ModelProcess, ThreadPoolExecutor]]:
    """A process that is stopped, and threads to send it batches; in the end it must have been replaced, once."""
    monkeypatch.setattr(child_process, "BEAT_S", 1000.0)  # the batches shall meet it, and not the watchdog
    limits = ModelLimits(threads=1, wall_s=wall_s)
    with ModelProcess(bundle, sha256=digest, limits=limits) as process, ThreadPoolExecutor(2) as pool:
        send(process, signal.SIGSTOP)
        until(lambda: all(state == "T" for state in states(process)))  # threads stop one after the other
        yield process, pool
        assert len(process.run(tiles(1, read_bundle(bundle).info.preprocessing.size))) == 1
        assert process.restarts == 1


def test_a_process_without_memory_is_replaced(bundle: Path, digest: str) -> None:
    """Its limit leaves no room for a batch's activations; how it ends is the runtime's affair, that it ends is ours."""
    size = read_bundle(bundle).info.preprocessing.size
    with ModelProcess(bundle, sha256=digest, limits=ModelLimits(threads=1)) as process:
        with process._kept.lock:
            assert process.process_id is not None
            resource.prlimit(process.process_id, resource.RLIMIT_AS, (1 << 20, 1 << 20))
            died = 0
            for count in (8, 8):
                try:
                    process.run(tiles(count, size))
                except (ModelDied, BundleError):
                    died += 1
            assert died
        assert len(process.run(tiles(8, size))) == 8
        assert process.trouble is None


def test_while_none_comes_up_it_says_so_and_goes_on_when_one_does(
    bundle: Path, digest: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = tmp_path / "copy.hilum"
    copy.write_bytes(bundle.read_bytes())
    monkeypatch.setattr(child_process, "LONGEST_PAUSE_S", 0.1)
    size = read_bundle(bundle).info.preprocessing.size
    with ModelProcess(copy, sha256=digest, limits=ModelLimits(threads=1)) as process:
        copy.unlink()
        send(process, signal.SIGKILL)
        until(lambda: process.trouble is not None)
        assert "doesn't come up" in (process.trouble or "")
        with pytest.raises(ModelDied, match="doesn't come up"):
            process.run(tiles(1, size))
        small_bundle(copy, version="other")
        until(lambda: "was exchanged" in (process.trouble or ""))
        copy.write_bytes(bundle.read_bytes())
        until(lambda: process.trouble is None)
        assert len(process.run(tiles(1, size))) == 1
    with pytest.raises(UsageError, match="is closed"):
        process.run(tiles(1, size))


def test_a_bad_bundle_and_a_bad_batch_are_named(
    bundle: Path, digest: str, process: ModelProcess, tmp_path: Path
) -> None:
    (tmp_path / "bad.hilum").write_bytes(bundle.read_bytes()[:-100])
    with pytest.raises(BundleError):
        ModelProcess(tmp_path / "bad.hilum", sha256=digest)
    with pytest.raises(BundleError, match="was exchanged"):
        ModelProcess(bundle, sha256="0" * 64)
    with pytest.raises(UsageError, match="is not a runtime"):
        ModelProcess(bundle, sha256=digest, runtime="abacus")
    with pytest.raises(UsageError, match="takes tiles"):
        process.run(np.zeros((1, 1, 5, 5), np.uint8))
    assert process.trouble is None


def until(happened: object, within_s: float = 60) -> None:
    deadline = time.monotonic() + within_s
    while not happened():  # type: ignore[operator]
        assert time.monotonic() < deadline
        time.sleep(0.02)


def states(process: ModelProcess) -> list[str]:
    """What each thread of the child is at, such as S for asleep and T for stopped."""
    files = Path(f"/proc/{process.process_id}/task").glob("*/stat")
    return [file.read_text().rpartition(")")[2].split()[0] for file in files]


def send(process: ModelProcess, number: int) -> None:
    assert process.process_id is not None  # 0 would be our own group
    os.kill(process.process_id, number)
