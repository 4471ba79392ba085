"""Routes that hand out answers in a form that can't be covered film by film: closed to who reads first."""

from fastapi import Request
from starlette.exceptions import HTTPException

from hilum.records.access import Caller
from hilum.service.reading_first import reads_first
from hilum.service.rest.access import Needs, room_of

SENTENCE = (
    "Readers here give their own opinion before they see an answer, and this way to films has the answers beside them. "
    "Read at the page, or use a key of a user who is no reviewer."
)


class Uncovered(Needs):
    """The caller, who has the scope and is no reader where readers go first."""

    async def __call__(self, request: Request) -> Caller:
        """Who calls; raises HTTPException 403 for a reader who goes first, and what :class:`Needs` raises."""
        caller = await super().__call__(request)
        if reads_first(room_of(request), caller):
            raise HTTPException(403, SENTENCE)
        return caller
