"""Looking for priors put together: the PACS of the settings, headers read in a sandboxed child."""

import contextlib
import functools
from collections.abc import Iterator, Sequence
from datetime import date
from typing import Any

from hilum.errors import ServiceError
from hilum.imaging.sandbox import Sandbox
from hilum.records.look_ups import LookUps
from hilum.service.destinations import Destination
from hilum.service.dicom.film_header import PRELOAD, read_header
from hilum.service.dicom.pacs import Pacs, asking, fetch
from hilum.service.dicom.priors import Film, Found, find_priors
from hilum.service.intake import Intake
from hilum.service.logs import logger
from hilum.service.looking_back import LookingBack
from hilum.service.refusals import Refused
from hilum.service.renewing import renewed_client
from hilum.service.settings import MIB, Settings


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
    pacs = reached(settings, node)
    if sole:
        logger().info("unfinished look-ups taken up again", look_ups=look_ups.release())
    limits = {"memory_mb": settings.decode_memory_mb, "wall_s": settings.decode_wall_s}
    with Sandbox(1, preload=PRELOAD, **limits) as sandbox:  # type: ignore[arg-type]
        looking = LookingBack(
            look_ups,
            intake.files,
            read=functools.partial(sandbox.run, read_header),
            find=functools.partial(_find, pacs, settings),
            fetch=functools.partial(_fetch, pacs, settings, intake),
            cap_s=settings.results_retry_cap_s,
            give_up_s=settings.pacs_give_up_h * 3600,
        )
        looking.start()
        try:
            yield looking
        finally:
            logger().info("looking for priors stopped", finished=looking.stop(settings.drain_s))


def reached(settings: Settings, node: Destination) -> Pacs:
    """How the PACS of the settings is reached.

    Raises:
        ServiceError: a certificate file can't be used.
    """
    try:
        tls = renewed_client(settings.results_ca, settings.results_certificate).current if node.tls else None
    except OSError as error:
        raise ServiceError(
            f"The certificates for the PACS can't be used ({error.strerror or type(error).__name__}). Check "
            "HILUM_RESULTS_CA and HILUM_RESULTS_CERTIFICATE."
        ) from None
    return Pacs(
        node=node,
        calling=settings.ae_title,
        tls=tls,
        timeout_s=settings.pacs_timeout_s,
        deadline_s=settings.association_deadline_s,
        largest_film_bytes=settings.largest_film_mb * MIB,
    )


def _find(pacs: Pacs, settings: Settings, film: Film) -> Sequence[Found]:
    from hilum.service.dicom.patients import asked_with

    asked_with(film.patient)  # before anybody is asked
    with asking(pacs) as ask:
        return find_priors(ask, film, years=settings.priors_years, count=settings.priors_count, today=date.today())


def _fetch(pacs: Pacs, settings: Settings, intake: Intake, films: Sequence[Found]) -> str:
    from hilum.service.dicom.receiving import announced, answer_store, keep

    wanted = {one.sop_instance_uid for one in films}

    def receive(event: Any) -> int:
        _, sop_instance = announced(event)
        if sop_instance not in wanted:
            raise Refused("The PACS sends a film that it was not asked for.", code="unsupported")
        keep(event, intake, sop_instance_uid=sop_instance, calling_ae=pacs.node.ae_title, fetched=True)
        return 0x0000

    way = settings.pacs_retrieve
    if way == "auto" and settings.dicom_port is None:
        way = "get"  # nobody would be there for C-MOVE to send to
    return fetch(pacs, films, way=way, keep=lambda event: answer_store(event, receive))
