"""Memory that is lent: read where it lies, and written by nobody but its owner."""

import mmap
import os

import pytest

from hilum.shared_memory import Lent, SharedMemory

SIZE = 16 * mmap.PAGESIZE


def test_who_is_lent_it_reads_what_its_owner_writes() -> None:
    memory = SharedMemory(SIZE)
    memory.memory[:5] = b"first"
    lent = Lent(descriptor=memory.descriptor, size=5)
    assert bytes(lent.content()) == b"first"
    memory.memory[:6] = b"second"
    assert bytes(Lent(descriptor=memory.descriptor, size=6).content()) == b"second"


def test_what_nobody_has_any_more_is_closed() -> None:
    memory = SharedMemory(SIZE)
    descriptor = memory.descriptor
    del memory
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)


def test_a_descriptor_of_other_memory_is_not_taken_for_the_one_before() -> None:
    found = []
    for i in range(40):  # more than are kept mapped; the number is the same each time
        memory = SharedMemory(SIZE)
        memory.memory[:2] = b"%02d" % i
        found.append(bytes(Lent(descriptor=memory.descriptor, size=2).content()))
        del memory
    assert found == [b"%02d" % i for i in range(40)]


def test_nobody_else_writes_there() -> None:
    memory = SharedMemory(SIZE)
    with pytest.raises(TypeError):
        Lent(descriptor=memory.descriptor, size=5).content()[0] = 1
    again = os.open(f"/proc/self/fd/{memory.descriptor}", os.O_RDWR)
    try:
        for descriptor in (memory.descriptor, again):
            with pytest.raises(PermissionError):
                os.write(descriptor, b"other")
            with pytest.raises(PermissionError):
                mmap.mmap(descriptor, SIZE)
            with pytest.raises(PermissionError):
                os.truncate(descriptor, 0)
    finally:
        os.close(again)
