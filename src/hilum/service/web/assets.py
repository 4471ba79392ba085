"""Scripts and styles of the pages, at addresses that change with them: a browser asks for each version once."""

import hashlib
from functools import cache
from pathlib import Path

from starlette.responses import Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

FOLDER = Path(__file__).parent / "static"
KEPT = "public, max-age=31536000, immutable"


@cache
def static_root() -> str:
    """Where the pages find them: ``/static/`` and eight digits of what is in the folder."""
    digest = hashlib.sha256()
    for path in sorted(FOLDER.rglob("*.*")):
        digest.update(f"{path.relative_to(FOLDER)}\n".encode() + path.read_bytes())
    return f"/static/{digest.hexdigest()[:8]}"


class Assets(StaticFiles):
    """The files of :data:`FOLDER`, with their version before them or without; scripts name each other relatively."""

    def __init__(self) -> None:
        super().__init__(directory=FOLDER)
        self._version = static_root().rpartition("/")[2] + "/"

    async def get_response(self, path: str, scope: Scope) -> Response:
        """A file; with its version it is kept for good."""
        response = await super().get_response(path.removeprefix(self._version), scope)
        if path.startswith(self._version) and response.status_code == 200:
            response.headers["Cache-Control"] = KEPT
        return response
