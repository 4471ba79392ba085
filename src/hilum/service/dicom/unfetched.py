"""Why a PACS gave nothing."""

from hilum.errors import HilumError


class Unfetched(HilumError):
    """A PACS could not be asked, or did not give what it was asked for.

    Attributes:
        code: stable machine-readable reason.
        permanent: trying again would not help before a person has changed something.
    """

    def __init__(self, message: str, *, code: str, permanent: bool = False) -> None:
        self.code, self.permanent = code, permanent
        super().__init__(message)
