"""Send films to a running service and print each answer as it comes, without asking again and again.

    hilum serve chest.hilum            # elsewhere
    HILUM_API_KEY=… python examples/follow_answers.py http://127.0.0.1:8042 film.dcm another.png

The key needs the scopes films:send and films:read. HILUM_CA names the PEM file of who signed the certificate of a
service at https. Assistive, not for diagnosis.
"""

import os
import sys
from pathlib import Path

from hilum.client.api import Client


def main(url: str, films: list[Path], key: str | None, ca: Path | None = None) -> None:
    """Send, then follow until every film has an answer or a reason."""
    with Client(url, key=key, ca=ca) as client:
        waiting = {client.submit(path).id: path.name for path in films}
        # From the first event on: a film may have been answered before we begin to listen.
        for event in client.events(after=0):
            if event.film in waiting and event.kind in ("answered", "failed", "quarantined"):
                answer = client.study(event.film)
                print(f"{waiting.pop(event.film)}: {answer.state}, {answer.label or 'no label'}.", *answer.reasons)
            if not waiting:
                return


if __name__ == "__main__":
    authority = os.environ.get("HILUM_CA")
    films = [Path(name) for name in sys.argv[2:]]
    main(sys.argv[1], films, os.environ.get("HILUM_API_KEY"), Path(authority) if authority else None)
