"""Memory that one process fills and others read, a child that decodes among them, without a copy (Linux, memfd_create).

The memory is sealed (F_SEAL_FUTURE_WRITE): nobody but who made it ever writes there, whatever happens in a child.
"""

import fcntl
import mmap
import os
import weakref
from collections import OrderedDict
from dataclasses import dataclass

F_SEAL_FUTURE_WRITE = 0x10
"""Of fcntl(2), since Linux 5.1."""

KEPT_MAPPINGS = 16
_mappings: OrderedDict[tuple[int, int], mmap.mmap] = OrderedDict()


@dataclass(frozen=True, slots=True, kw_only=True)
class Lent:
    """The first bytes of some shared memory, for another process to read while it has them."""

    descriptor: int
    """Of the memory; one of the receiver's own once it has crossed."""
    size: int
    """Bytes."""

    def content(self) -> memoryview:
        """The bytes where they lie; they change when what lent them is used again.

        Raises:
            OSError: they can't be mapped.
        """
        there = os.fstat(self.descriptor)
        mapping = _mappings.pop((there.st_dev, there.st_ino), None)
        if mapping is None:  # mapped once, not for each film: so the pages are known
            mapping = mmap.mmap(self.descriptor, there.st_size, mmap.MAP_SHARED, mmap.PROT_READ)
        _mappings[there.st_dev, there.st_ino] = mapping
        while len(_mappings) > KEPT_MAPPINGS:
            _mappings.popitem(last=False)
        return memoryview(mapping)[: self.size]


class SharedMemory:
    """Some memory; let go of when nobody has it any more.

    Args:
        size: bytes, a multiple of a page.

    Raises:
        OSError: there is no such memory here.
    """

    def __init__(self, size: int) -> None:
        if not hasattr(os, "memfd_create"):
            raise OSError("no memory to share")
        self.descriptor = os.memfd_create("hilum-film", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        weakref.finalize(self, os.close, self.descriptor)
        os.truncate(self.descriptor, size)
        self.memory = mmap.mmap(self.descriptor, size)
        seals = F_SEAL_FUTURE_WRITE | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
        fcntl.fcntl(self.descriptor, fcntl.F_ADD_SEALS, seals)
