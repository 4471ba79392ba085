"""Beyond a mark no further film is taken, whichever door it comes to; what was acknowledged is answered."""

import time
from pathlib import Path

import httpx
import pytest
from tests.service.conftest import let_in, settings_in
from tests.service.small import SmallDrawing, SmallModel, dataset, png
from tests.service.test_dicom import associated, port_of

from hilum.errors import ServiceError
from hilum.service.app import running
from hilum.service.pressure import Pressure
from hilum.service.refusals import Refused


def test_a_rush_between_two_looks_does_not_pass_the_mark() -> None:
    now, looks = [0.0], []
    pressure = Pressure(lambda: looks.append(1) or 2, most=5, clock=lambda: now[0])  # type: ignore[func-returns-value]
    for _ in range(3):
        pressure.check()
    for _ in range(10):
        with pytest.raises(Refused, match="5 films wait for their answer already.*HILUM_MOST_WAITING") as refused:
            pressure.check()
    assert (refused.value.code, refused.value.films_fault, len(looks)) == ("busy", False, 1)
    now[0] = 0.5
    pressure.check()
    assert len(looks) == 2


def test_when_nobody_can_tell_nothing_is_taken() -> None:
    def away() -> int:
        raise ServiceError("The records could not be read.")

    with pytest.raises(Refused, match="could not be read. The film was not accepted; send it again") as refused:
        Pressure(away, most=5).check()
    assert refused.value.code == "records-away"


class Slow(SmallModel):
    """Answers when it is told to."""

    go = False

    def prepare(self, path: Path) -> object:
        while not self.go:
            time.sleep(0.01)
        return super().prepare(path)


def test_rest_says_429_and_dicom_out_of_resources_until_there_is_room_again(tmp_path: Path) -> None:
    model = Slow()
    settings = settings_in(tmp_path, dicom_port=0, most_waiting=2)
    with (
        running(settings, answering=model, drawing=SmallDrawing()) as service,  # type: ignore[arg-type]
        httpx.Client(base_url=service.url, timeout=90, headers=let_in(service)) as http,
    ):
        kind = {"Content-Type": "image/png"}
        taken = [http.post("/api/v1/studies", content=png(level), headers=kind) for level in (1, 2)]
        assert [reply.status_code for reply in taken] == [201, 201]
        refused = http.post("/api/v1/studies", content=png(3), headers=kind)
        assert (refused.status_code, refused.headers["retry-after"]) == (429, "10")
        assert refused.json()["type"] == "urn:hilum:problem:busy"
        with associated(port_of(service)) as association:
            assert association.send_c_store(dataset(911)).Status == 0xA700
        model.go = True
        for reply in taken:
            assert http.get(f"/api/v1/studies/{reply.json()['id']}?wait=60").json()["state"] == "answered"
        time.sleep(0.5)  # the mark is looked at twice a second
        assert http.post("/api/v1/studies?wait=60", content=png(3), headers=kind).json()["state"] == "answered"
