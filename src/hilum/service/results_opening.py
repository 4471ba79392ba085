"""The senders of results put together: films are read in a sandboxed child, certificates are checked."""

import contextlib
import functools
from collections.abc import Iterator, Sequence

from hilum.errors import ServiceError
from hilum.imaging.sandbox import Sandbox
from hilum.records.results_out import Outbox
from hilum.service.destinations import Destination
from hilum.service.dicom.objects import PRELOAD, make_objects
from hilum.service.dicom.result import ResultObject
from hilum.service.film_files import FilmFiles
from hilum.service.logs import logger
from hilum.service.renewing import Renewed, renewed_client
from hilum.service.results_out import ResultsOut
from hilum.service.settings import Settings
from hilum.service.stow import stow


@contextlib.contextmanager
def open_results_out(settings: Settings, outbox: Outbox, files: FilmFiles, *, sole: bool) -> Iterator[ResultsOut]:
    """Start the senders; on leaving, finish what is being sent.

    Args:
        settings: destinations and limits.
        outbox: the queue.
        files: where films lie.
        sole: no other process sends from this queue, so what was being sent belongs to a dead one.

    Raises:
        ServiceError: a certificate file can't be used.
    """
    tls = tls_context(settings)
    reviews = bool(settings.results_organization)
    outbox.register([one.name for one in settings.destinations], reviews=reviews)
    if sole:
        logger().info("unsent results taken up again", results=outbox.release())
    limits = {"memory_mb": settings.decode_memory_mb, "wall_s": settings.decode_wall_s}
    with Sandbox(1, preload=PRELOAD, **limits) as sandbox:  # type: ignore[arg-type]
        senders = ResultsOut(
            outbox,
            files,
            settings.destinations,
            make=functools.partial(sandbox.run, make_objects),
            hand_over=functools.partial(_hand_over, settings=settings, renewed=tls),
            organization=settings.results_organization,
            cap_s=settings.results_retry_cap_s,
            give_up_s=settings.results_give_up_h * 3600,
        )
        senders.start()
        try:
            yield senders
        finally:
            logger().info("senders stopped", finished=senders.stop(settings.drain_s))


def tls_context(settings: Settings) -> Renewed | None:
    """How destinations' certificates are checked, by the files as they are then; None where none of them uses TLS.

    Raises:
        ServiceError: a certificate file can't be used.
    """
    if not any(one.tls for one in settings.destinations):
        return None
    try:
        return renewed_client(settings.results_ca, settings.results_certificate)
    except OSError as error:  # ssl.SSLError is one
        raise ServiceError(
            f"The certificates for sending results can't be used ({error.strerror or type(error).__name__}). Check "
            "HILUM_RESULTS_CA and HILUM_RESULTS_CERTIFICATE."
        ) from None


def _hand_over(
    objects: Sequence[ResultObject], destination: Destination, *, settings: Settings, renewed: Renewed | None
) -> None:
    tls = renewed.current() if renewed else None
    if destination.kind == "stow":
        stow(objects, destination, tls=tls if destination.tls else None, timeout_s=settings.results_timeout_s)
        return
    from hilum.service.dicom.handing_over import hand_over

    hand_over(objects, destination, calling=settings.ae_title, tls=tls, timeout_s=settings.results_timeout_s)
