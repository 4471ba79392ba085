"""Send films to a DICOM peer by C-STORE: what a modality or a PACS does; used to try the listener out."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from pydicom import dcmread
from pynetdicom import AE
from pynetdicom.presentation import build_context

from hilum.errors import ServiceError

SUCCESS = 0x0000


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """A DICOM node."""

    host: str
    """Host name or address."""
    port: int
    """TCP port."""
    ae_title: str
    """Its AE title."""


def send_films(
    films: Iterable[Path], peer: Peer, *, calling: str = "HILUM-SCU", timeout_s: float = 30
) -> tuple[int, ...]:
    """Send DICOM files over one association.

    Args:
        films: paths of DICOM files.
        peer: who gets them.
        calling: our AE title.
        timeout_s: longest wait for a connection or an answer.

    Returns:
        the status of each C-STORE (PS3.7, 9.1.1.1.9); 0x0000 is success.

    Raises:
        ServiceError: no association, or the peer went away.
    """
    datasets = [dcmread(path) for path in films]
    kinds = {(d.SOPClassUID, d.file_meta.TransferSyntaxUID) for d in datasets}
    ae = AE(ae_title=calling)
    ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = timeout_s
    ae.connection_timeout = timeout_s
    ae.requested_contexts = [build_context(sop_class, syntax) for sop_class, syntax in sorted(kinds)]
    association = ae.associate(peer.host, peer.port, ae_title=peer.ae_title)
    if not association.is_established:
        raise ServiceError(
            f"{peer.ae_title}@{peer.host}:{peer.port} gave no association. Is it running, and does it know {calling}?"
        )
    try:
        statuses = [association.send_c_store(dataset) for dataset in datasets]
    finally:
        association.release()
    if any("Status" not in status for status in statuses):
        raise ServiceError(f"{peer.ae_title}@{peer.host}:{peer.port} broke the association off. See its log.")
    return tuple(int(status.Status) for status in statuses)
