"""Is the service alive, and is it ready for films?"""

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from hilum.errors import ServiceError


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """Verdict on each part."""

    ready: bool
    """True when films are accepted and answered."""
    checks: Mapping[str, str]
    """``ok`` or one sentence, by part."""


def look(
    *,
    ping_records: Callable[[], None],
    storage_broken: str | None,
    audit_broken: str | None,
    model_trouble: str | None,
    stopping: bool,
    films_folder: str,
    least_free_bytes: int,
    listener: bool,
    listener_trouble: str | None,
) -> Health:
    """Look at every part.

    Args:
        ping_records: raises ServiceError when the database is away.
        storage_broken: why nothing is accepted any more; None when all is well.
        audit_broken: why the audit's heads can't be signed; None when all is well.
        model_trouble: why no film can be answered just now; None when all is well.
        stopping: whether the service drains.
        films_folder: where films lie.
        least_free_bytes: below this nothing is accepted.
        listener: whether there is a DICOM listener.
        listener_trouble: why no film can come in over DICOM just now; None when all is well.
    """
    broken = {"model": model_trouble, "records": None, "storage": storage_broken, "audit": audit_broken}
    checks = {part: why or "ok" for part, why in broken.items()}
    try:
        ping_records()
    except ServiceError as error:
        checks["records"] = str(error)
    free = shutil.disk_usage(films_folder).free
    enough = free >= least_free_bytes
    checks["disk"] = "ok" if enough else f"{free >> 20} MiB free; {least_free_bytes >> 20} MiB are needed."
    if listener:
        checks["dicom"] = listener_trouble or "ok"
    if stopping:
        checks["service"] = "The service is stopping."
    return Health(ready=all(value == "ok" for value in checks.values()), checks=checks)
