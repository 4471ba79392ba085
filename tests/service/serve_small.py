"""A service on the smallest model as a process.

``python -m tests.service.serve_small DATA DELAY_S [dicom|no [ROLE …]]``
prints its address, a key of a user with these roles (a reviewer's where none is named), and its DICOM port.
"""

import sys
import time
from collections.abc import Sequence
from pathlib import Path

from tests.service.conftest import let_in, settings_in
from tests.service.small import SmallDrawing, SmallModel

from hilum.records.values import NewAnswer
from hilum.service.answering import Ready
from hilum.service.app import running


class Slow(SmallModel):
    def __init__(self, delay_s: float) -> None:
        super().__init__()
        self.delay_s = delay_s

    def answer(self, films: Sequence[Ready]) -> list[NewAnswer]:
        time.sleep(self.delay_s)
        return super().answer(films)


if __name__ == "__main__":
    settings = settings_in(Path(sys.argv[1]), dicom_port=0 if sys.argv[3:4] == ["dicom"] else None)
    with running(settings, answering=Slow(float(sys.argv[2])), drawing=SmallDrawing()) as service:
        print(
            service.url,
            let_in(service, *sys.argv[4:])["Authorization"].split()[1],
            service.dicom_port or "",
            flush=True,
        )
        service.wait()
