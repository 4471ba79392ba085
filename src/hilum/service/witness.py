"""Signs the audit's heads while the service runs: about once a second when the chain has grown, and at the stop."""

import threading
from pathlib import Path

from hilum.errors import HilumError, ServiceError
from hilum.keys import PrivateKey, create_key, public_path_of, read_private_key
from hilum.records.audit import tip_of
from hilum.records.database import Database
from hilum.records.heads import HeadBook
from hilum.records.store import now
from hilum.service.logs import logger
from hilum.service.settings import Settings

EVERY_S = 1.0


def audit_key(settings: Settings) -> PrivateKey:
    """The key that signs heads; made at the first start.

    Raises:
        UsageError: it can't be read, or its passphrase is missing or wrong.
        ServiceError: it can't be made.
    """
    path = settings.audit_key_path
    passphrase = settings.key_passphrase.get_secret_value() if settings.key_passphrase else None
    if not path.exists():
        try:
            create_key(path, passphrase=passphrase)
        except OSError as error:
            raise ServiceError(
                f"The audit's key {path} can't be made ({error.strerror}). Give another with HILUM_AUDIT_KEY."
            ) from None
        logger().info("audit key made", public=str(public_path_of(path)))
    return read_private_key(path, passphrase=passphrase)


class Witness:
    """Signs in a thread of its own until it is stopped.

    Args:
        database: whose audit.
        book: where heads are written.
        every_s: how often the chain is looked at.
    """

    def __init__(self, database: Database, book: HeadBook, *, every_s: float = EVERY_S) -> None:
        self._database, self._book, self._every_s = database, book, every_s
        self._stopping = threading.Event()
        self.broken: str | None = None
        self._thread = threading.Thread(target=self._run, name="hilum-witness", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Sign once more, then end."""
        self._stopping.set()
        self._thread.join()
        self.sign()

    def sign(self) -> None:
        """Sign the end of the chain, if it has grown; a failure is logged and shown in the health."""
        try:
            with self._database.read() as session:
                tip = tip_of(session)
            self._book.sign(tip, now())
        except (OSError, HilumError) as error:
            reason = f"The audit's heads can't be signed ({type(error).__name__}); see to {self._book.path.name}."
            if self.broken is None:
                logger().error("audit head not signed", reason=reason)
            self.broken = reason
        else:
            self.broken = None

    def _run(self) -> None:
        while not self._stopping.wait(self._every_s):
            self.sign()


def open_witness(settings: Settings, database: Database) -> Witness:
    """The witness of a service.

    Raises:
        UsageError: the key can't be used.
        ServiceError: the key can't be made.
    """
    return Witness(database, HeadBook(Path(settings.audit_heads_path), audit_key(settings)))
