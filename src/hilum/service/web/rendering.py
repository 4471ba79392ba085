"""Templates to pages: everything is escaped, and each page knows who looks at it."""

from functools import cache
from pathlib import Path

from fastapi import Request
from fastapi.responses import HTMLResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from hilum.records.access import Caller, csrf_token
from hilum.service.rest.access import room_of
from hilum.service.rest.schemas import NOTICE
from hilum.service.web.assets import static_root
from hilum.service.web.phrases import HOME_WORDS, READING_WORDS
from hilum.service.web.views import BAR_WIDTH

TEMPLATES = Path(__file__).parent / "templates"


@cache
def _environment() -> Environment:
    # Everything is escaped, whatever the file is called; an unknown name is an error, not an empty place.
    return Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _common() -> dict[str, object]:
    return {"notice": NOTICE, "bar_width": BAR_WIDTH, "reading_words": READING_WORDS, "home_words": HOME_WORDS}


def render(
    request: Request, template: str, *, status: int = 200, caller: Caller | None = None, **values: object
) -> HTMLResponse:
    """A page.

    Args:
        request: what asks for it.
        template: its name.
        status: HTTP status.
        caller: who is logged in; None on the pages before.
        **values: what the template shows.
    """
    room = room_of(request)
    model, idle_s = room.answering.model, 60 * room.settings.session_idle_min
    csrf = csrf_token(caller.session) if caller is not None and caller.session is not None else ""
    common = {
        **_common(),
        "model": model,
        "caller": caller,
        "csrf": csrf,
        "idle_s": idle_s,
        "static": static_root(),
        "here": request.url.path,
    }
    text = _environment().get_template(template).render(**common, **values)
    return HTMLResponse(text, status_code=status)
