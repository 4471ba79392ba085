"""``/health``: for whoever watches over the service."""

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field

from hilum.service.rest.access import open_to_all, room_of

router = APIRouter(prefix="/health", tags=["health"], dependencies=[open_to_all])


class Live(BaseModel):
    """The process answers."""

    status: str = "alive"


class ReadyReport(BaseModel):
    """Verdict on each part."""

    ready: bool = Field(description="True when films are accepted and answered.")
    checks: dict[str, str] = Field(description="`ok` or one sentence, by part.")
    model: str = Field(description="Digest of the model in service.")
    waiting: int = Field(description="Films that wait for an answer.")


@router.get("/live", response_model=Live, summary="Is the process alive?")
async def live() -> Live:
    """Answers while the process lives; restart it when this fails."""
    return Live()


@router.get(
    "/ready",
    response_model=ReadyReport,
    summary="Is it ready for films?",
    responses={503: {"model": ReadyReport, "description": "Not ready; `checks` says why."}},
)
def ready(request: Request, response: Response) -> ReadyReport:
    """Checks the model, the records, the storage, the disk and the DICOM listener."""
    room = room_of(request)
    health = room.health()
    response.status_code = 200 if health.ready else 503
    waiting = 0
    if health.checks["records"] == "ok":
        counts = room.store.counts()
        waiting = counts.get("received", 0) + counts.get("preparing", 0)
    return ReadyReport(
        ready=health.ready, checks=dict(health.checks), model=room.answering.model.sha256, waiting=waiting
    )
