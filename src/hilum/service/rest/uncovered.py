"""Routes that hand out answers in a form that can't be covered film by film: closed to who must not see some."""

from fastapi import Request
from fastapi.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException

from hilum.records.access import Caller
from hilum.service.reading_first import reads_first
from hilum.service.rest.access import Needs, room_of

SENTENCE = (
    "Readers here give their own opinion before they see an answer, and this way to films has the answers beside them. "
    "Read at the page, or use a key of a user who is no reviewer."
)
IN_A_STUDY = (
    "You read in a reader study, and this way to films has the answers and patients beside them. It is open again when "
    "you have read the whole study."
)


class Uncovered(Needs):
    """The caller, who has the scope, is no reader where readers go first, and reads in no study just now."""

    async def __call__(self, request: Request) -> Caller:
        """Who calls; raises HTTPException 403 for a reader who goes first, and what :class:`Needs` raises."""
        caller, room = await super().__call__(request), room_of(request)
        if reads_first(room, caller):
            raise HTTPException(403, SENTENCE)
        if await run_in_threadpool(room.studies.reads, caller.name):
            raise HTTPException(403, IN_A_STUDY)
        return caller
