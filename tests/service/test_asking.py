"""A hostile PACS bloats and ends the process that asks it, and nothing else; the next look-up begins with another."""

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset
from pynetdicom import service_class
from tests.service.archive import PENDING, Archive, archive, study
from tests.service.conftest import settings_in

from hilum.service.dicom.asking_process import AskingProcess
from hilum.service.dicom.patients import Ambiguous, Patient
from hilum.service.dicom.priors import Film
from hilum.service.dicom.reception import Reception
from hilum.service.dicom.unfetched import Unfetched

HELD = (study(1, "20250101"),)
FILM = Film(
    patient=Patient(patient_id="P1"),
    charset=(),
    study_instance_uid="1.2.9",
    accession_number="",
    taken=("20261101", "101112"),
)
MEMORY_MB = 48


@contextlib.contextmanager
def asking(folder: Path, pacs: Archive, **changes: object) -> Iterator[AskingProcess]:
    settings = settings_in(folder, pacs=pacs.setting, pacs_timeout_s=120, **changes)
    settings = settings.model_copy(update={"listener_memory_mb": MEMORY_MB})  # less than may be set: it is reached soon
    nowhere: Any = None  # no film comes
    with contextlib.closing(AskingProcess(settings, Reception(nowhere, lambda uid: False))) as process:
        yield process


def bloated() -> Dataset:
    """An answer that is small on the way and large when it is read: 7,000 elements of 8 bytes each."""
    answer = Dataset()
    answer.QueryRetrieveLevel, answer.StudyInstanceUID = "STUDY", "1.2.3.1"
    for number in range(7000):
        answer.add_new(0x00110000 + 0x20000 * (number // 200) + 0x1000 + number % 200, "UN", b"")
    return answer


class Watch(threading.Thread):
    """The largest memory in use by the asking process, MiB, and its ids."""

    def __init__(self, process: AskingProcess) -> None:
        super().__init__(daemon=True)
        self.process, self.largest_mb, self.ids, self.done = process, 0.0, set[int](), threading.Event()

    def run(self) -> None:
        while not self.done.wait(0.01):
            found = self.process.process_id
            with contextlib.suppress(OSError, IndexError):
                if found is not None:
                    self.ids.add(found)
                    pages = int(Path(f"/proc/{found}/statm").read_text().split()[1])
                    self.largest_mb = max(self.largest_mb, pages * os.sysconf("SC_PAGE_SIZE") / 2**20)


def test_a_pacs_whose_answers_bloat_is_given_up_within_the_limit_and_asked_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer, told, over, encoded = bloated(), [0], threading.Event(), list[Any]()
    honest, encode = Archive.find, service_class.encode

    def encode_once(dataset: Dataset, *how: Any) -> Any:
        if dataset is not answer:
            return encode(dataset, *how)
        encoded.extend([] if encoded else [encode(dataset, *how)])
        return encoded[0]

    def hostile(self: Archive, event: Any) -> Iterator[tuple[int, Dataset | None]]:
        while not over.is_set():
            told[0] += 1
            yield PENDING, answer

    monkeypatch.setattr(Archive, "find", hostile)
    monkeypatch.setattr(service_class, "encode", encode_once)
    with archive(HELD) as pacs, asking(tmp_path, pacs) as process:
        watch = Watch(process)
        watch.start()
        with pytest.raises(Unfetched) as refused:
            process.find(FILM)
        over.set()
        watch.done.set()
        watch.join()
        assert not refused.value.permanent or refused.value.code == "too-many-answers"
        assert told[0] <= 1100, "it is not listened to for ever"
        assert 0 < watch.largest_mb < MEMORY_MB + 256, "beside what it starts with"
        assert process.process_id is None, "nothing of it stays"
        monkeypatch.setattr(Archive, "find", honest)
    with archive(HELD) as pacs, asking(tmp_path, pacs) as process:
        assert [one.sop_instance_uid for one in process.find(FILM)] == [HELD[0].SOPInstanceUID]


def test_what_ends_the_process_is_told_and_the_next_look_up_has_another(tmp_path: Path) -> None:
    with archive(HELD) as pacs, asking(tmp_path, pacs) as process:
        assert process.process_id is None, "there is none before it is needed"
        assert len(process.find(FILM)) == 1
        first = process.process_id
        assert first is not None
        os.kill(first, signal.SIGKILL)
        with pytest.raises(Unfetched, match=r"process that asks the PACS ended \(SIGKILL\)") as refused:
            process.find(FILM)
        assert (refused.value.code, refused.value.permanent) == ("asking-died", False)
        assert len(process.find(FILM)) == 1
        second = process.process_id
        assert second not in (None, first)
        with pytest.raises(Ambiguous, match="wildcard"):
            process.find(Film(**{**asdict(FILM), "patient": Patient(patient_id="*")}))
        assert process.process_id == second, "nobody was asked"
        pacs.refuse_finds = 1
        with pytest.raises(Unfetched, match="could not answer a query"):
            process.find(FILM)
        end = time.monotonic() + 120
        while Path(f"/proc/{second}").exists():
            assert time.monotonic() < end, "who failed is ended"
            time.sleep(0.02)
