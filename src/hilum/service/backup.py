"""Backup and restore of a service's folder with records in SQLite: a snapshot while it runs, checked before it counts.

A backup is a folder: ``hilum.db`` (one moment's snapshot), ``films/`` (all that the snapshot names), the audit's heads
and public keys, and ``backup.json`` with digests. The private key stays where it is: who can read backups should not be
able to sign. A restored service makes a key of its own, and the old public key stays beside it by another name.
"""

import contextlib
import hashlib
import json
import shutil
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hilum.errors import DataError, UsageError
from hilum.files import replacing_directory, write_json
from hilum.keys import read_public_key
from hilum.progress import Progress, Silent
from hilum.provenance import sha256_file
from hilum.records.proving import prove
from hilum.service.film_files import film_path

DATABASE, LIST, HEADS = "hilum.db", "backup.json", "audit-heads.jsonl"
PUBLIC_KEYS = "audit*.pub"
"""Public keys of the audit: the one in use, and those before a restore."""

FORMAT = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Backup:
    """What a backup holds."""

    films: int
    """Film files."""
    audit_rows: int
    """Rows of the audit, all of them whole."""
    database_sha256: str
    """Digest of the snapshot."""


def back_up(data: Path, out: Path, *, progress: Progress | None = None) -> Backup:
    """Write a backup, whole or not at all; the service may run meanwhile.

    Args:
        data: the service's folder.
        out: the backup's folder; nothing may be there yet.
        progress: where progress goes.

    Raises:
        UsageError: there are no records, or ``out`` is taken.
        DataError: a film is missing or damaged, or the audit was changed.
    """
    if not (data / DATABASE).exists():
        raise UsageError(
            f"There are no records in SQLite at {data}. For PostgreSQL use pg_dump, and copy {data}/films."
        )
    if out.exists():
        raise UsageError(f"{out} is there already, and a backup is never overwritten. Choose another name.")
    with replacing_directory(out) as folder:
        beside = {path.name for path in (*data.glob(PUBLIC_KEYS), *data.glob(HEADS))}
        for name in beside:  # before the snapshot, so that no head is younger than it
            shutil.copy2(data / name, folder / name)
        _snapshot(data / DATABASE, folder / DATABASE)
        films = _films(folder / DATABASE)
        _copy_films(films, data, folder, progress or Silent(), "Back up films")
        digest = sha256_file(folder / DATABASE)
        digests = {name: sha256_file(folder / name) for name in sorted(beside)}
        write_json(folder / LIST, {"format": FORMAT, "database": digest, "films": sorted(films), "beside": digests})
        rows = _whole_audit(folder)
    return Backup(films=len(films), audit_rows=rows, database_sha256=digest)


def restore(backup: Path, data: Path, *, progress: Progress | None = None) -> Backup:
    """Make a service's folder of a backup, after everything in it was checked.

    Args:
        backup: folder of :func:`back_up`.
        data: the folder to make; nothing may be there yet.
        progress: where progress goes.

    Raises:
        UsageError: ``backup`` is none, or ``data`` is taken.
        DataError: something in it is missing, damaged or changed.
    """
    if data.exists() and any(data.iterdir()):
        raise UsageError(f"{data} is not empty, and nothing is restored over it. Give another folder with --data.")
    listed = _listed(backup)
    for name, digest in {DATABASE: listed["database"], **listed["beside"]}.items():
        if not (backup / name).is_file() or sha256_file(backup / name) != digest:
            raise DataError(f"{backup / name} is missing or was changed since the backup. Use another backup.")
    films = _films(backup / DATABASE)
    if sorted(films) != listed["films"]:
        raise DataError(f"{backup / LIST} names other films than the records. Use another backup.")
    rows = _whole_audit(backup)
    with replacing_directory(data) as folder:
        folder.chmod(0o700)
        _copy_films(films, backup, folder, progress or Silent(), "Restore films")
        for name in (DATABASE, *listed["beside"]):
            shutil.copy2(backup / name, folder / _name_after(backup / name))
    return Backup(films=len(films), audit_rows=rows, database_sha256=listed["database"])


def _snapshot(source: Path, target: Path) -> None:
    """SQLite's own backup of one moment; the source is only read and never checkpointed."""
    with (
        contextlib.closing(sqlite3.connect(f"{source.resolve().as_uri()}?mode=ro", uri=True)) as running,
        contextlib.closing(sqlite3.connect(target)) as copy,
    ):
        running.backup(copy)
        copy.execute("PRAGMA journal_mode=DELETE")
        found = copy.execute("PRAGMA integrity_check").fetchone()[0]
        if found != "ok":
            raise DataError(f"The records in {source} are damaged ({str(found)[:80]}). Restore an earlier backup.")


def _films(database: Path) -> set[str]:
    with contextlib.closing(sqlite3.connect(f"{database.resolve().as_uri()}?mode=ro", uri=True)) as records:
        return {row[0] for row in records.execute("SELECT file_sha256 FROM films")}


def _copy_films(films: set[str], source: Path, target: Path, progress: Progress, title: str) -> None:
    (target / "films").mkdir()
    with progress.bar(title, len(films)) as bar:
        for sha256 in sorted(films):
            place = film_path(target / "films", sha256)
            place.parent.mkdir(exist_ok=True)
            digest = hashlib.sha256()
            try:
                with open(film_path(source / "films", sha256), "rb") as film, open(place, "xb") as copy:
                    for chunk in _chunks(film):
                        digest.update(chunk)
                        copy.write(chunk)
            except FileNotFoundError:
                raise DataError(f"Film file {sha256} is missing in {source}. Use an earlier backup for it.") from None
            if digest.hexdigest() != sha256:
                raise DataError(f"Film file {sha256} in {source} is damaged. Use an earlier backup for it.")
            bar.advance()


def _name_after(path: Path) -> str:
    """A public key gets a name of its own, because the restored service makes a new pair."""
    return f"audit-{read_public_key(path).id}.pub" if path.match(PUBLIC_KEYS) else path.name


def _chunks(handle: Any) -> Iterator[bytes]:
    while chunk := handle.read(1 << 20):
        yield chunk


def _listed(backup: Path) -> dict[str, Any]:
    try:
        listed = json.loads((backup / LIST).read_bytes())
        known = listed["format"] == FORMAT and all(
            Path(name).name == name and (name == HEADS or Path(name).match(PUBLIC_KEYS)) for name in listed["beside"]
        )
        _ = listed["database"], listed["films"], dict(listed["beside"])
    except (OSError, ValueError, KeyError, TypeError):
        known = False
    if not known:
        raise UsageError(f"{backup} is no backup of this version of hilum. Give a folder that hilum backup wrote.")
    return dict(listed)


def _whole_audit(folder: Path) -> int:
    """Rows of the audit in a backup.

    Raises:
        DataError: it was changed.
    """
    keys, heads = tuple(sorted(folder.glob(PUBLIC_KEYS))), folder / HEADS
    proof = prove(url=f"sqlite:///{folder / DATABASE}", export=None, heads=heads, heads_given=False, keys=keys)
    verdict = proof.verdict
    if not verdict.whole:
        raise DataError(f"The audit was changed at row {verdict.first_bad}: {verdict.reason}")
    return verdict.rows
