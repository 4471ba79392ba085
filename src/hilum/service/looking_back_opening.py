"""Looking for priors put together: the PACS asked by a process of its own, headers read in a sandboxed child."""

import contextlib
import functools
from collections.abc import Iterator

from hilum.errors import ServiceError
from hilum.imaging.sandbox import Sandbox
from hilum.records.look_ups import LookUps
from hilum.service.certificates import client_context
from hilum.service.destinations import Destination
from hilum.service.dicom.asking_process import AskingProcess
from hilum.service.dicom.film_header import PRELOAD, read_header
from hilum.service.dicom.reception import Reception
from hilum.service.intake import Intake
from hilum.service.logs import logger
from hilum.service.looking_back import LookingBack
from hilum.service.settings import Settings


@contextlib.contextmanager
def open_looking_back(
    settings: Settings, look_ups: LookUps, intake: Intake, node: Destination, *, sole: bool
) -> Iterator[LookingBack]:
    """Start to look for priors; on leaving, finish the look-up in work.

    Args:
        settings: limits.
        look_ups: the queue.
        intake: where fetched films go.
        node: the PACS.
        sole: no other process looks, so what was being looked for belongs to a dead one.

    Raises:
        ServiceError: a certificate file can't be used.
    """
    _check_certificates(settings, node)
    if sole:
        logger().info("unfinished look-ups taken up again", look_ups=look_ups.release())
    limits = {"memory_mb": settings.decode_memory_mb, "wall_s": settings.decode_wall_s}
    asking = AskingProcess(settings, Reception(intake, look_ups.expected))
    with Sandbox(1, preload=PRELOAD, **limits) as sandbox, contextlib.closing(asking):  # type: ignore[arg-type]
        looking = LookingBack(
            look_ups,
            intake.files,
            read=functools.partial(sandbox.run, read_header),
            find=asking.find,
            fetch=asking.fetch,
            cap_s=settings.results_retry_cap_s,
            give_up_s=settings.pacs_give_up_h * 3600,
        )
        looking.start()
        try:
            yield looking
        finally:
            logger().info("looking for priors stopped", finished=looking.stop(settings.drain_s))


def _check_certificates(settings: Settings, node: Destination) -> None:
    try:
        if node.tls:
            client_context(authorities=settings.results_ca, own=settings.results_certificate)
    except OSError as error:
        raise ServiceError(
            f"The certificates for the PACS can't be used ({error.strerror or type(error).__name__}). Check "
            "HILUM_RESULTS_CA and HILUM_RESULTS_CERTIFICATE."
        ) from None
