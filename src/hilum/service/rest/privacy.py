"""``/api/v1/privacy``: erasing a patient or a study while the service runs. For admins."""

from typing import Annotated

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field

from hilum.records.access import Caller
from hilum.service.erasing import erase
from hilum.service.rest.access import needs, room_of
from hilum.service.rest.users import RESPONSES, Kept

router = APIRouter(prefix="/api/v1/privacy", tags=["privacy"], responses=RESPONSES)


class Whose(BaseModel):
    """Whose films are to be erased: one of the two."""

    model_config = ConfigDict(extra="forbid")

    patient_id: Kept | None = Field(default=None, max_length=64, description="Patient ID, as it stands in films.")
    study_uid: Kept | None = Field(default=None, max_length=64, description="Study Instance UID.")


class ErasedOut(BaseModel):
    """What was erased, and what a person must still look at."""

    films: int = Field(description="Films erased, with their answers, reviews and files.")
    unreadable: list[str] = Field(description="Ids of films whose headers can't be read: nobody can tell whose.")
    left_over: list[str] = Field(description="Names of files that no record knows and that can't be read.")


@router.post("/erase", response_model=ErasedOut, summary="Erase a patient or a study")
def erase_films(request: Request, whose: Whose, caller: Annotated[Caller, needs("users:write")]) -> ErasedOut:
    """Erase all films of a patient or a study, with answers, heat maps, reviews and what is on its way to a PACS.

    The same request again erases nothing twice, so it needs no Idempotency-Key: remembering the request would keep a
    digest of the very id that is to be forgotten. Backups, and what a PACS was sent, are not reached. SQLite writes its
    file anew at the end, and other writers wait meanwhile.
    """
    room = room_of(request)
    with room.erasing:
        done = erase(
            room.database, room.intake.files, patient_id=whose.patient_id, study_uid=whose.study_uid, actor=caller.name
        )
    room.pictures.forget(done.film_ids)
    return ErasedOut(films=done.films, unreadable=list(done.unreadable), left_over=list(done.left_over))
