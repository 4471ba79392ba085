"""``/metrics``: counts for Prometheus."""

from typing import Annotated

from fastapi import APIRouter, Request, Response

from hilum.records.access import Caller
from hilum.service.metrics import CONTENT_TYPE
from hilum.service.rest.access import needs, room_of
from hilum.service.rest.users import RESPONSES

router = APIRouter(tags=["health"], responses={code: RESPONSES[code] for code in (401, 403)})


@router.get("/metrics", response_class=Response, summary="Counts for Prometheus")
def metrics(request: Request, caller: Annotated[Caller, needs("metrics:read")]) -> Response:
    """The text format 0.0.4. Prometheus sends a key as `authorization: credentials`."""
    return Response(room_of(request).metrics.text(), media_type=CONTENT_TYPE)
