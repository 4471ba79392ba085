"""Backup and restore of a service's folder with records in SQLite: a snapshot while it runs, checked before it counts.

A backup is a folder: ``hilum.db`` (one moment's snapshot), ``films/`` (all that the snapshot names), the audit's
heads and public keys, ``anchors/`` (the phantom films and what each model said of them), and ``backup.json`` with
digests. The private key stays where it is: who can read backups should not be able to sign. A restored service makes
a key of its own, and the old public key stays beside it by another name.
"""

import contextlib
import json
import shutil
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import select

from hilum.data_keys import Keyring
from hilum.errors import DataError, FilmError, UsageError
from hilum.files import replacing_directory, write_json
from hilum.keys import read_public_key
from hilum.progress import Progress, Silent
from hilum.provenance import sha256_file
from hilum.records import erased_list
from hilum.records.database import Database
from hilum.records.proving import prove, reading
from hilum.records.schema import AuditRow
from hilum.service.anchors import CHECKED
from hilum.service.erasing import erase_again
from hilum.service.film_files import FilmFiles, StoredFilm, film_path

DATABASE, LIST, HEADS, ERASURES = "hilum.db", "backup.json", "audit-heads.jsonl", erased_list.NAME
PUBLIC_KEYS = "audit*.pub"
"""Public keys of the audit: the one in use, and those before a restore."""

ANCHORS = "anchors"
"""Folder of :mod:`hilum.service.anchors`; the audit names what is recorded there."""

FORMAT = 1
TRIES = 3
"""How often it is begun anew when the running service records an answer meanwhile."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Backup:
    """What a backup holds."""

    films: int
    """Film files."""
    audit_rows: int
    """Rows of the audit, all of them whole."""
    database_sha256: str
    """Digest of the snapshot."""
    anchors: int = 0
    """Files of the anchors: phantom films, and a model's answers each."""
    unlike: tuple[str, ...] = ()
    """Models whose recorded answers are missing or are not those that the audit names."""
    erased: int = 0
    """Films of it that were erased anew, since they had been erased after it was made."""


def back_up(data: Path, out: Path, *, keys: Keyring | None = None, progress: Progress | None = None) -> Backup:
    """Write a backup, whole or not at all; the service may run meanwhile.

    Args:
        data: the service's folder.
        out: the backup's folder; nothing may be there yet.
        keys: data keys, to check films that lie encrypted; the backup holds them as they lie, and never a key.
        progress: where progress goes.

    Raises:
        UsageError: there are no records, or ``out`` is taken.
        DataError: a film is missing or damaged, its key is not given, or the audit was changed.
    """
    if not (data / DATABASE).exists():
        raise UsageError(
            f"There are no records in SQLite at {data}. For PostgreSQL use pg_dump, and copy {data}/films and anchors."
        )
    if out.exists():
        raise UsageError(f"{out} is there already, and a backup is never overwritten. Choose another name.")
    with replacing_directory(out) as folder:
        beside = {path.name for path in (*data.glob(PUBLIC_KEYS), *data.glob(HEADS), *data.glob(ERASURES))}
        for name in beside:  # before the snapshot, so that no head is younger than it
            shutil.copy2(data / name, folder / name)
        for _ in range(TRIES):
            _snapshot(data / DATABASE, folder / DATABASE)
            anchors = _copy_anchors(data, folder)
            unlike = _unlike(folder)
            if not unlike:
                break
        films = _films(folder / DATABASE)
        needed = _data_keys(folder / DATABASE, keys or Keyring())
        _copy_films(films, data, folder, keys or Keyring(), progress or Silent(), "Back up films")
        digest = sha256_file(folder / DATABASE)
        digests = {name: sha256_file(folder / name) for name in sorted(beside)}
        listed = {"format": FORMAT, "database": digest, "films": sorted(films), "beside": digests, "data_keys": needed}
        write_json(folder / LIST, listed | {ANCHORS: anchors})
        rows = _whole_audit(folder)
    return Backup(films=len(films), audit_rows=rows, database_sha256=digest, anchors=len(anchors), unlike=unlike)


def restore(
    backup: Path,
    data: Path,
    *,
    erasures: Path | None = None,
    keys: Keyring | None = None,
    progress: Progress | None = None,
) -> Backup:
    """Make a service's folder of a backup, after everything in it was checked.

    Args:
        backup: folder of :func:`back_up`.
        data: the folder to make; nothing may be there yet.
        erasures: the newest list of what was erased (``erasures.jsonl`` of the service, or of a later backup): its
            films are erased anew before the folder appears.
        keys: data keys that the backup was made under.
        progress: where progress goes.

    Raises:
        UsageError: ``backup`` is none, or ``data`` is taken.
        DataError: something in it is missing, damaged or changed, or a key that it needs is not given.
    """
    if data.exists() and any(data.iterdir()):
        raise UsageError(f"{data} is not empty, and nothing is restored over it. Give another folder with --data.")
    listed = _listed(backup)
    anchors = {f"{ANCHORS}/{name}": digest for name, digest in listed.get(ANCHORS, {}).items()}
    for name, digest in {DATABASE: listed["database"], **listed["beside"], **anchors}.items():
        if not (backup / name).is_file() or sha256_file(backup / name) != digest:
            raise DataError(f"{backup / name} is missing or was changed since the backup. Use another backup.")
    films = _films(backup / DATABASE)
    if sorted(films) != listed["films"]:
        raise DataError(f"{backup / LIST} names other films than the records. Use another backup.")
    _data_keys(backup / DATABASE, keys or Keyring())
    rows = _whole_audit(backup)
    gone = erased_list.read_erased(erasures) if erasures is not None else ()
    with replacing_directory(data) as folder:
        folder.chmod(0o700)
        _copy_films(films, backup, folder, keys or Keyring(), progress or Silent(), "Restore films")
        for name in (DATABASE, *listed["beside"]):
            shutil.copy2(backup / name, folder / _name_after(backup / name))
        _copy_anchors(backup, folder)
        erased = _erase_anew(folder, gone, keys or Keyring()) if gone else 0
    return Backup(
        films=len(films),
        audit_rows=rows,
        database_sha256=listed["database"],
        anchors=len(anchors),
        unlike=_unlike(backup),
        erased=erased,
    )


def _erase_anew(folder: Path, gone: Sequence[str], keys: Keyring) -> int:
    """Erase what was erased after the backup; gives how many films."""
    database = Database(f"sqlite:///{folder / DATABASE}", keys)
    try:
        erased = erase_again(database, FilmFiles(folder, keys, sole=False), gone, actor="console")
    finally:
        database.close()
    (folder / f"{DATABASE}.lock").unlink(missing_ok=True)
    return erased


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


def _copy_anchors(source: Path, target: Path) -> dict[str, str]:
    """Copy the anchors' files; their digests by name, empty where the service never checked its model."""
    shutil.rmtree(target / ANCHORS, ignore_errors=True)
    files = sorted(path for path in (source / ANCHORS).glob("*") if path.suffix in (".dcm", ".json"))
    if files:
        (target / ANCHORS).mkdir(mode=0o700)
    return {path.name: sha256_file(Path(shutil.copy2(path, target / ANCHORS))) for path in files}


def _unlike(folder: Path) -> tuple[str, ...]:
    """Models whose recorded answers in a folder are not those that its audit named last."""
    named: dict[str, str] = {}
    with reading(f"sqlite:///{folder / DATABASE}") as session:
        checks = select(AuditRow.subject, AuditRow.body).where(AuditRow.act == CHECKED).order_by(AuditRow.seq)
        for model, body in session.execute(checks):
            named[model] = json.loads(body)["detail"]["answers"]
    kept = {model: folder / ANCHORS / f"{model}.json" for model in named}
    return tuple(one for one, path in kept.items() if not path.exists() or sha256_file(path) != named[one])


def _films(database: Path) -> set[str]:
    with contextlib.closing(sqlite3.connect(f"{database.resolve().as_uri()}?mode=ro", uri=True)) as records:
        return {row[0] for row in records.execute("SELECT file_sha256 FROM films WHERE file_sha256 <> ''")}


def _data_keys(database: Path, keys: Keyring) -> list[str]:
    """Ids of the data keys that a snapshot needs.

    Raises:
        DataError: one is not given.
    """
    with contextlib.closing(sqlite3.connect(f"{database.resolve().as_uri()}?mode=ro", uri=True)) as records:
        try:
            needed = [str(row[0]) for row in records.execute("SELECT id FROM data_keys ORDER BY since")]
        except sqlite3.OperationalError:  # of a version that knew no data keys
            needed = []
    missing = [one for one in needed if one not in keys.ids]
    if missing:
        raise DataError(
            f"The backup is encrypted with the data key {', '.join(missing)}, which is not given. Give it in "
            "HILUM_DATA_KEY_FILE or HILUM_DATA_KEY; a backup holds no keys, and nobody can read it without."
        )
    return needed


def _copy_films(films: set[str], source: Path, target: Path, keys: Keyring, progress: Progress, title: str) -> None:
    (target / "films").mkdir()
    with progress.bar(title, len(films)) as bar:
        for sha256 in sorted(films):
            place = film_path(target / "films", sha256)
            place.parent.mkdir(exist_ok=True)
            try:
                shutil.copyfile(film_path(source / "films", sha256), place)
                _check(StoredFilm(path=place, file_sha256=sha256, keys=keys))
            except FileNotFoundError:
                raise DataError(f"Film file {sha256} is missing in {source}. Use an earlier backup for it.") from None
            except FilmError:
                raise DataError(f"Film file {sha256} in {source} is damaged. Use an earlier backup for it.") from None
            bar.advance()


def _name_after(path: Path) -> str:
    """A public key gets a name of its own, because the restored service makes a new pair."""
    return f"audit-{read_public_key(path).id}.pub" if path.match(PUBLIC_KEYS) else path.name


def _check(film: StoredFilm) -> None:
    """Read it all: what was changed is found by its digest, or by its tags."""
    for _ in film.chunks():
        pass


def _listed(backup: Path) -> dict[str, Any]:
    try:
        listed = json.loads((backup / LIST).read_bytes())
        known = listed["format"] == FORMAT and all(
            Path(name).name == name and (name in (HEADS, ERASURES) or Path(name).match(PUBLIC_KEYS))
            for name in listed["beside"]
        )
        known = known and all(Path(name).name == name for name in dict(listed.get(ANCHORS, {})))
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
