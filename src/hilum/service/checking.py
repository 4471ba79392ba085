"""``hilum serve --check``: would it start, and would it be well? Nothing is served and nothing is made."""

import contextlib
import os
import shutil
import socket
from collections.abc import Callable, Mapping
from pathlib import Path

from sqlalchemy import inspect, text

from hilum.errors import HilumError, ServiceError
from hilum.keys import read_private_key
from hilum.records.access import Access
from hilum.records.database import Database
from hilum.records.heads import public_keys
from hilum.records.holdings import newest_files
from hilum.records.key_change import require_keys
from hilum.records.proving import prove, reading
from hilum.records.schema import HEAD
from hilum.service.backup_folder import require_finished
from hilum.service.certificates import look_at_authorities, look_at_pair, server_context
from hilum.service.film_files import NEWEST, films_elsewhere
from hilum.service.settings import MIB, Settings, misspelt

WELL = "ok"
"""What is said of a part that is well; what begins with it and a comma is well enough to start."""


class _Warned(Exception):
    """It would start, and somebody should know what follows."""


def check_service(settings: Settings) -> Mapping[str, str]:
    """Look at everything that a start needs, all of it, whatever fails.

    Args:
        settings: what the service would be started with.

    Returns:
        ``ok`` or one sentence, by part: settings, folder, disk, model, keys, records, films, audit, ports, and the
        certificates of REST, DICOM and results; ``ok, but …`` where it would start and something should be known.
    """
    looks: dict[str, Callable[[Settings], None]] = {
        "settings": _names,
        "folder": _folder,
        "disk": _disk,
        "model": _model,
        "keys": _keys,
        "records": _records,
        "films": _films,
        "audit": _audit,
        "ports": _ports,
        "tls": _tls,
        "dicom tls": _dicom_tls,
        "results tls": _results_tls,
    }
    return {name: _outcome(look, settings) for name, look in looks.items()}


def _outcome(look: Callable[[Settings], None], settings: Settings) -> str:
    try:
        look(settings)
    except _Warned as warning:
        return f"{WELL}, but {warning}"
    except HilumError as error:
        return str(error)
    except OSError as error:
        return f"{error.strerror or type(error).__name__}. Check permissions and paths."
    return WELL


def _names(_: Settings) -> None:
    """A misspelt name in the environment would be passed over without a word."""
    for name, meant in misspelt().items():
        raise ServiceError(f"{name} is no setting. " + (f"Did you mean {meant}?" if meant else "Take it away."))


def _folder(settings: Settings) -> None:
    there = _nearest(settings.data)
    if not os.access(there, os.W_OK | os.X_OK):
        raise ServiceError(f"{there} is not writable. Give another folder with --data.")
    require_finished(settings.data)


def _nearest(path: Path) -> Path:
    """The folder itself, or the nearest above it that is there."""
    path = path.resolve()
    while not path.exists():
        path = path.parent
    return path


def _disk(settings: Settings) -> None:
    free = shutil.disk_usage(_nearest(settings.data)).free
    if free < settings.least_free_mb * MIB:
        raise ServiceError(f"{free // MIB} MiB free; {settings.least_free_mb} MiB are needed.")


def _model(settings: Settings) -> None:
    from hilum.bundle.signature import read_trusted
    from hilum.inference.assess import open_bundle

    trusted = read_trusted(settings.trusted_keys)
    with open_bundle(settings.bundle, 1, trusted=trusted, runtime=settings.runtime, precision=settings.precision):
        pass


def _keys(settings: Settings) -> None:
    if not settings.keyring:
        raise _Warned(
            "films and identifiers lie unencrypted, which is accepted on this machine alone. hilum keys new-data-key "
            "makes a key for HILUM_DATA_KEY_FILE."
        )


def _records(settings: Settings) -> None:
    if not _there_are_records(settings):
        if not settings.on_loopback:
            raise ServiceError("There are no records yet, so there is no admin. Make one with hilum users add.")
        return
    with Database(settings.url, settings.keyring, beside=True) as database:
        require_keys(database)
        if not Access(database).has_admin() and not settings.on_loopback:
            raise ServiceError("There is no admin. Make one with hilum users add NAME --role admin.")


def _there_are_records(settings: Settings) -> bool:
    """Whether there are any, of this version; opened to be written to, others would be brought up to date."""
    if settings.database_url is None and not (settings.data / "hilum.db").exists():
        return False
    with reading(settings.url) as session:
        tables = inspect(session.connection()).get_table_names()
        versions = session.scalars(text("SELECT version_num FROM alembic_version")).all() if tables else []
    if not versions:
        return False
    if versions[0] > HEAD:
        raise ServiceError(
            "The records were written by a newer hilum, whose schema is unknown. Start that version, or "
            "restore the backup from before the upgrade."
        )
    if versions[0] < HEAD:
        raise _Warned(
            "they are of an earlier version: a start brings them up to date, and an earlier hilum refuses them then. "
            "Make a backup first."
        )
    return True


def _films(settings: Settings) -> None:
    """Records without their films answer nothing again and send no result."""
    with contextlib.suppress(_Warned):
        if not _there_are_records(settings):
            return
    with reading(settings.url) as session:
        names = newest_files(session, limit=NEWEST)
    said = films_elsewhere(settings.data, names)
    if said:
        raise ServiceError(said)


def _audit(settings: Settings) -> None:
    if settings.audit_key_path.exists():
        passphrase = settings.key_passphrase.get_secret_value() if settings.key_passphrase else None
        read_private_key(settings.audit_key_path, passphrase=passphrase)
    with contextlib.suppress(_Warned):
        if not _there_are_records(settings):
            return
    keys = public_keys(settings.data, settings.audit_key_path)
    proof = prove(url=settings.url, export=None, heads=settings.audit_heads_path, heads_given=False, keys=keys)
    if not proof.verdict.whole:
        raise ServiceError(f"Changed at row {proof.verdict.first_bad}: {proof.verdict.reason}")


def _ports(settings: Settings) -> None:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    for port in (settings.port, settings.dicom_port):
        if not port:
            continue
        with socket.socket(family, socket.SOCK_STREAM) as one:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                one.bind((settings.host, port))
            except OSError as error:
                option = "--port" if port == settings.port else "--dicom-port"
                raise ServiceError(
                    f"Port {port} on {settings.host} can't be used ({error.strerror}). End what has it, or give "
                    f"another with {option}."
                ) from None


def _tls(settings: Settings) -> None:
    if settings.tls_certificate is not None and settings.tls_key is not None:
        look_at_pair(settings.tls_certificate, settings.tls_key)


def _dicom_tls(settings: Settings) -> None:
    pair = settings.dicom_pair
    if settings.dicom_port is None or settings.dicom_tls == "off" or pair is None:
        return
    look_at_pair(*pair)
    if settings.dicom_ca is not None:
        look_at_authorities(settings.dicom_ca)
    server_context(*pair, clients=settings.dicom_tls, authorities=settings.dicom_ca)


def _results_tls(settings: Settings) -> None:
    """Certificates for what we connect to."""
    if settings.results_ca is not None:
        look_at_authorities(settings.results_ca)
    if settings.results_certificate is not None:
        look_at_pair(settings.results_certificate, settings.results_certificate)
