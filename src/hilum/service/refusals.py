"""Why a film is not accepted at the door."""

from hilum.errors import ServiceError


class Refused(ServiceError):
    """A film is not accepted, and nothing of it was kept.

    Attributes:
        code: machine-readable reason: ``too-large``, ``unsupported``, ``empty``, ``cut-off`` (the film's fault);
            ``no-space``, ``storage-failed``, ``records-away``, ``stopping``, ``too-slow``, ``busy``, ``too-many``,
            ``internal`` (try again later).
    """

    def __init__(self, message: str, *, code: str) -> None:
        self.code = code
        super().__init__(message)

    @property
    def films_fault(self) -> bool:
        """True when sending the same again is of no use."""
        return self.code in ("too-large", "unsupported", "empty", "cut-off")
