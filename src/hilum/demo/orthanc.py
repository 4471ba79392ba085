"""An Orthanc of a story's own, as the PACS: it routes films to hilum and keeps what comes back."""

import contextlib
import io
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
from pydicom import Dataset, dcmread

from hilum.demo.programs import beside, program, until
from hilum.errors import ServiceError

AE_TITLE = "ORTHANC"
PACKAGE = "orthanc"

ROUTE = """-- What came by DICOM and is a plain film goes to hilum; what hilum sent back stays here.
local films = { CR = true, DX = true }

function OnStoredInstance(instance, tags, metadata, origin)
  if origin['RequestOrigin'] == 'DicomProtocol' and origin['RemoteAet'] ~= 'HILUM' and films[tags['Modality']] then
    SendToModality(instance, 'hilum')
  end
end
"""


class Pacs:
    """A running Orthanc, asked over its REST interface.

    Args:
        http_port: of REST, on loopback.
        dicom_port: of C-STORE.
    """

    def __init__(self, http_port: int, dicom_port: int) -> None:
        self.dicom_port = dicom_port
        self._web = httpx.Client(base_url=f"http://127.0.0.1:{http_port}", timeout=30, trust_env=False)

    def close(self) -> None:
        """Close the connections."""
        self._web.close()

    @property
    def destination(self) -> str:
        """Where hilum sends results, as in its settings."""
        return f"pacs=dicom://{AE_TITLE}@127.0.0.1:{self.dicom_port}"

    def answers(self) -> bool:
        """True when it is up."""
        with contextlib.suppress(httpx.TransportError):
            return self._web.get("/system").status_code == 200
        return False

    def held(self, **query: str) -> list[str]:
        """Its own ids of the instances that match, such as ``Modality="SR"``."""
        return list(self._json("/tools/find", {"Level": "Instance", "Query": query}))

    def object(self, instance: str) -> Dataset:
        """One instance, read."""
        reply = self._web.get(f"/instances/{instance}/file")
        return dcmread(io.BytesIO(reply.raise_for_status().content))

    def _json(self, path: str, body: Mapping[str, Any]) -> Any:
        try:
            return self._web.post(path, json=dict(body)).raise_for_status().json()
        except httpx.HTTPError as error:
            raise ServiceError(f"Orthanc did not answer {path} ({type(error).__name__}). See orthanc.log.") from None


def orthanc_program() -> Path:
    """Where Orthanc lies; raises UsageError when it is not installed."""
    return program("Orthanc", package=PACKAGE)


@contextlib.contextmanager
def orthanc(folder: Path, ports: tuple[int, int], *, hilum_port: int, scanners: tuple[str, ...]) -> Iterator[Pacs]:
    """An Orthanc that runs while the block does, with an empty store.

    Args:
        folder: its files lie below ``orthanc``.
        ports: of REST and of C-STORE.
        hilum_port: where films are routed to.
        scanners: AE titles that may send; only from this machine.

    Raises:
        UsageError: it is not installed.
        ServiceError: it doesn't start.
    """
    own = folder.resolve() / "orthanc"
    own.mkdir()
    (own / "route.lua").write_text(ROUTE)
    here = {"Host": "127.0.0.1"}
    settings = {
        "Name": "Synthetic clinic",
        "StorageDirectory": str(own / "store"),
        "IndexDirectory": str(own / "store"),
        "HttpPort": ports[0],
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": False,
        "DicomPort": ports[1],
        "DicomAet": AE_TITLE,
        "DicomCheckCalledAet": True,
        # Its DICOM port can't be bound to loopback alone, so hosts are checked.
        "DicomAlwaysAllowStore": False,
        "DicomAlwaysAllowEcho": False,
        "DicomCheckModalityHost": True,
        "DicomModalities": {
            "hilum": {"AET": "HILUM", "Port": hilum_port, **here},
            **{title.lower(): {"AET": title, "Port": 104, **here} for title in scanners},
        },
        "LuaScripts": [str(own / "route.lua")],
    }
    (own / "orthanc.json").write_text(json.dumps(settings, indent=2))
    pacs = Pacs(*ports)
    with beside("orthanc", [orthanc_program(), own / "orthanc.json"], folder), contextlib.closing(pacs):
        until(pacs.answers, "Orthanc answers", within_s=60)
        yield pacs
