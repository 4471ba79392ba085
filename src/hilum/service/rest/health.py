"""``/health``: for whoever watches over the service."""

from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, Field

from hilum.service.health import Health
from hilum.service.rest.access import open_to_all, room_of
from hilum.service.rest.problems import RETRY_AFTER_S, problem
from hilum.service.rest.schemas import Problem

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


class NotReady(ReadyReport, Problem):
    """Verdict on each part, as a problem document."""


@router.get(
    "/ready",
    response_model=ReadyReport,
    summary="Is it ready for films?",
    responses={
        503: {
            "model": NotReady,
            "content": {"application/problem+json": {}},
            "description": "Not ready; `detail` and `checks` say why.",
        }
    },
)
def ready(request: Request) -> Response:
    """Checks the model, the records, the storage, the disk and the DICOM listener."""
    room = room_of(request)
    health = room.health()
    waiting = 0
    if health.checks["records"] == "ok":
        counts = room.store.counts()
        waiting = counts.get("received", 0) + counts.get("preparing", 0)
    report = ReadyReport(
        ready=health.ready, checks=dict(health.checks), model=room.answering.model.sha256, waiting=waiting
    ).model_dump()
    return JSONResponse(report) if health.ready else _not_ready(health, report)


def _not_ready(health: Health, report: dict[str, Any]) -> JSONResponse:
    wrong = " ".join(f"{part}: {said}" for part, said in health.checks.items() if said != "ok")
    retry = {"Retry-After": RETRY_AFTER_S}
    return problem(503, "not-ready", "The service is not ready for films", wrong, retry, more=report)
