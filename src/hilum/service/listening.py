"""Open and close the DICOM listener and what hears it."""

import contextlib
from collections.abc import Iterator

from hilum.records.database import Database
from hilum.records.look_ups import LookUps
from hilum.service.dicom.hearing import Hearing
from hilum.service.dicom.listener_process import ListenerProcess
from hilum.service.dicom.reception import Reception
from hilum.service.dicom.refusal_book import RefusalBook
from hilum.service.dicom.strangers import Strangers
from hilum.service.intake import Intake
from hilum.service.metrics import Metrics
from hilum.service.settings import Settings


@contextlib.contextmanager
def open_listener(
    settings: Settings, intake: Intake, look_ups: LookUps, metrics: Metrics, database: Database, strangers: Strangers
) -> Iterator[ListenerProcess]:
    """The DICOM listener, in its own process.

    Args:
        settings: address, titles and limits.
        intake: where films go.
        look_ups: knows which films are wanted as priors.
        metrics: where it is counted.
        database: whose audit refusals go into.
        strangers: where peers are remembered whose title is not on the list.

    Raises:
        ServiceError: the port is taken, or a certificate can't be used.
    """
    book = RefusalBook(database)
    try:
        listener = ListenerProcess(
            settings,
            Reception(intake, look_ups.expected),
            said=Hearing(metrics, book, strangers.note),
            restarted=metrics.listener_restarted,
        )
        try:
            yield listener
        finally:
            listener.stop(settings.drain_s)
    finally:
        book.stop()
