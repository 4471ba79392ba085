"""Backup and restore of a service's folder and records: a snapshot while it runs, checked before it counts.

A backup is a folder: ``hilum.db`` or PostgreSQL's ``records.dump`` (one moment's snapshot), ``films/`` (all that the
snapshot names), the audit's heads and public keys, ``anchors/`` (the phantom films and what each model said of them),
and ``backup.json`` with digests. The private key stays where it is: who can read backups should not be able to sign. A
restored service makes a key of its own, and the old public key stays beside it by another name.
"""

import json
import shutil
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import make_url, select

from hilum.data_keys import Keyring
from hilum.errors import DataError, FilmError, UsageError
from hilum.files import write_json
from hilum.keys import read_public_key
from hilum.progress import Progress, Silent
from hilum.provenance import sha256_file
from hilum.records import erased_list, heads
from hilum.records.database import Database
from hilum.records.heads import PUBLIC_KEYS, public_keys
from hilum.records.proving import prove, reading
from hilum.records.schema import AuditRow
from hilum.service.anchors import CHECKED
from hilum.service.backup_folder import remove_remains, written_whole
from hilum.service.backup_records import (
    DUMP,
    SQLITE,
    is_sqlite,
    load,
    named,
    require_empty,
    say_restored,
    snapshot,
    url_of_file,
)
from hilum.service.erasing import erase_again
from hilum.service.film_files import FilmFiles, StoredFilm, film_path

LIST, HEADS, ERASURES = "backup.json", heads.NAME, erased_list.NAME
ANCHORS = "anchors"
"""Folder of :mod:`hilum.service.anchors`; the audit names what is recorded there."""

FORMAT = 1
TRIES = 3
"""How often it is begun anew when the running service records an answer meanwhile."""

NAMED = 100
"""So many film files that are missing or damaged are named."""

PUT_BACK = "A film's file is the same in every backup: put it in its place from another one, and try again."

SENT_AGAIN = (
    "Send these films again, which puts their files back; or put each in its place from an earlier backup, or erase "
    "its study with hilum privacy erase. Then make the backup."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Backup:
    """What a backup holds."""

    films: int
    """Film files."""
    audit_rows: int
    """Rows of the audit, all of them whole."""
    database_sha256: str
    """Digest of the snapshot."""
    heads: bool = True
    """Whether the audit's signed heads are in it."""
    anchors: int = 0
    """Files of the anchors: phantom films, and a model's answers each."""
    unlike: tuple[str, ...] = ()
    """Models whose recorded answers are missing or are not those that the audit names."""
    erased: int = 0
    """Films of it that were erased anew, since they had been erased after it was made."""
    remains: int = 0
    """Folders removed that killed backups or restores had left beside it."""


def back_up(
    data: Path,
    out: Path,
    *,
    url: str | None = None,
    signed: Path | None = None,
    signing_key: Path | None = None,
    keys: Keyring | None = None,
    progress: Progress | None = None,
) -> Backup:
    """Write a backup, whole or not at all; the service may run meanwhile.

    What killed backups or restores left beside it is removed first.

    Args:
        data: the service's folder.
        out: the backup's folder; nothing may be there yet.
        url: of the records, where they are not in SQLite in the folder.
        signed: the audit's signed heads, where they lie elsewhere.
        signing_key: the audit's private key, where it lies elsewhere: its public half is taken along.
        keys: data keys, to check films that lie encrypted; the backup holds them as they lie, and never a key.
        progress: where progress goes.

    Raises:
        UsageError: there are no records, ``out`` is taken, or ``pg_dump`` is missing.
        DataError: a film is missing or damaged, its key is not given, or the audit was changed.
        ServiceError: PostgreSQL's records can't be read.
    """
    url = url or url_of_file(data / SQLITE)
    if is_sqlite(url) and not Path(str(make_url(url).database)).exists():
        raise UsageError(
            f"There are no records at {make_url(url).database}. Give the service's folder with --data, or its database "
            "as HILUM_DATABASE_URL."
        )
    if out.exists():
        raise UsageError(f"{out} is there already, and a backup is never overwritten. Choose another name.")
    remains = remove_remains(out)  # first: the new one may need their room
    with written_whole(out) as folder:
        beside = _beside(data, signed, signing_key)
        for name, path in beside.items():  # before the snapshot, so that no head is younger than it
            shutil.copy2(path, folder / name)
        for _ in range(TRIES):
            records, names = snapshot(url, folder)
            anchors = _copy_anchors(data, folder)
            kept = url_of_file(folder / SQLITE) if records == SQLITE else url
            unlike = _unlike(kept, folder)
            if not unlike:
                break
        _require_keys(names.data_keys, keys or Keyring())
        _copy_films(
            names.films, data, folder, keys or Keyring(), progress or Silent(), "Back up films", mend=SENT_AGAIN
        )
        digest = sha256_file(folder / records)
        digests = {name: sha256_file(folder / name) for name in sorted(beside)}
        listed = {"format": FORMAT, "records": records, "database": digest, "films": sorted(names.films)}
        listed |= {"beside": digests, "data_keys": list(names.data_keys), ANCHORS: anchors}
        write_json(folder / LIST, listed)
        _whole_audit(kept, folder)
    return Backup(
        films=len(names.films),
        audit_rows=names.audit_rows,
        database_sha256=digest,
        heads=HEADS in beside,
        anchors=len(anchors),
        unlike=unlike,
        remains=remains,
    )


def _beside(data: Path, signed: Path | None, signing_key: Path | None) -> dict[str, Path]:
    """Files to take along, by their names in the backup; public keys from elsewhere by their ids."""
    found = {path.name: path for path in (signed or data / HEADS, data / ERASURES) if path.exists()}
    if signed is not None and signed.exists():
        found[HEADS] = found.pop(signed.name)
    for path in public_keys(data, signing_key):
        found[path.name if path.parent == data else _name_after(path)] = path
    return found


def restore(
    backup: Path,
    data: Path,
    *,
    url: str | None = None,
    erasures: Path | None = None,
    keys: Keyring | None = None,
    progress: Progress | None = None,
) -> Backup:
    """Make a service's folder and records of a backup, after everything in it was checked.

    What killed backups or restores left beside the folder, or in it, is removed first.

    Args:
        backup: folder of :func:`back_up`.
        data: the folder to make; nothing may be there yet.
        url: of an empty database of PostgreSQL, for a backup of one; None for SQLite in the folder.
        erasures: the newest list of what was erased (``erasures.jsonl`` of the service, or of a later backup): its
            films are erased anew before the folder appears.
        keys: data keys that the backup was made under.
        progress: where progress goes.

    Raises:
        UsageError: ``backup`` is none, ``data`` or the database is taken, or the database is of another kind.
        DataError: something in it is missing, damaged or changed, or a key that it needs is not given.
        ServiceError: PostgreSQL can't be written.
    """
    remains = remove_remains(data)
    if data.exists() and any(data.iterdir()):
        raise UsageError(f"{data} is not empty, and nothing is restored over it. Give another folder with --data.")
    listed = _listed(backup)
    records, kept = listed.get("records", SQLITE), sorted(listed["films"])
    _require_kind(records, url, data)
    anchors = {f"{ANCHORS}/{name}": digest for name, digest in listed.get(ANCHORS, {}).items()}
    for name, digest in {records: listed["database"], **listed["beside"], **anchors}.items():
        if not (backup / name).is_file() or sha256_file(backup / name) != digest:
            raise DataError(f"{backup / name} is missing or was changed since the backup. Use another backup.")
    if records == SQLITE:
        names = named(url_of_file(backup / SQLITE))
        _require_films(names.films, kept, backup)
        _require_keys(names.data_keys, keys or Keyring())
        _whole_audit(url_of_file(backup / SQLITE), backup)
    else:
        _require_keys(listed["data_keys"], keys or Keyring())
    gone = erased_list.read_erased(erasures) if erasures is not None else ()
    with written_whole(data) as folder:
        _copy_films(kept, backup, folder, keys or Keyring(), progress or Silent(), "Restore films", mend=PUT_BACK)
        for name in listed["beside"]:
            shutil.copy2(backup / name, folder / _name_after(backup / name))
        _copy_anchors(backup, folder)
        if records == SQLITE:
            shutil.copy2(backup / SQLITE, folder / SQLITE)
            url = url_of_file(folder / SQLITE)
        else:
            load(str(url), backup / DUMP)
        rows, unlike = _restored(str(url), kept, backup, sha256=listed["database"])
        erased = _erase_anew(str(url), folder, gone, keys or Keyring()) if gone else 0
    return Backup(
        films=len(kept),
        audit_rows=rows,
        database_sha256=listed["database"],
        heads=HEADS in listed["beside"],
        anchors=len(anchors),
        unlike=unlike,
        erased=erased,
        remains=remains,
    )


def _restored(url: str, films: Sequence[str], backup: Path, *, sha256: str) -> tuple[int, tuple[str, ...]]:
    """Check records that came back, and write down that they did; rows of the backup's audit, and models unlike."""
    try:
        _require_films(named(url).films, films, backup)
        rows = _whole_audit(url, backup)
    except DataError as error:
        filled = "" if is_sqlite(url) else " The database was filled before this was found: drop it."
        raise DataError(f"{error}{filled}") from None
    unlike = _unlike(url, backup)
    say_restored(url, rows=rows, sha256=sha256)
    return rows, unlike


def _require_kind(records: str, url: str | None, data: Path) -> None:
    """A backup comes back into the kind of database that it is of, and into an empty one."""
    if records == DUMP:
        if url is None or is_sqlite(url):
            raise UsageError(
                "The backup holds records of PostgreSQL. Make an empty database with createdb, and name it in "
                "HILUM_DATABASE_URL."
            )
        require_empty(url)
    elif url is not None and url != url_of_file(data / SQLITE):
        raise UsageError(
            f"The backup holds records in SQLite, which come back as {data / SQLITE}, and HILUM_DATABASE_URL names "
            "another database. Unset it, for this and for the restored service."
        )


def _erase_anew(url: str, folder: Path, gone: Sequence[str], keys: Keyring) -> int:
    """Erase what was erased after the backup; gives how many films."""
    database = Database(url, keys)
    try:
        erased = erase_again(database, FilmFiles(folder, keys, sole=False), gone, actor="console")
    finally:
        database.close()
    (folder / f"{SQLITE}.lock").unlink(missing_ok=True)
    return erased


def _copy_anchors(source: Path, target: Path) -> dict[str, str]:
    """Copy the anchors' files; their digests by name, empty where the service never checked its model."""
    shutil.rmtree(target / ANCHORS, ignore_errors=True)
    files = sorted(path for path in (source / ANCHORS).glob("*") if path.suffix in (".dcm", ".json"))
    if files:
        (target / ANCHORS).mkdir(mode=0o700)
    return {path.name: sha256_file(Path(shutil.copy2(path, target / ANCHORS))) for path in files}


def _unlike(url: str, folder: Path) -> tuple[str, ...]:
    """Models whose recorded answers in a folder are not those that the audit named last."""
    named: dict[str, str] = {}
    with reading(url) as session:
        checks = select(AuditRow.subject, AuditRow.body).where(AuditRow.act == CHECKED).order_by(AuditRow.seq)
        for model, body in session.execute(checks):
            named[model] = json.loads(body)["detail"]["answers"]
    kept = {model: folder / ANCHORS / f"{model}.json" for model in named}
    return tuple(one for one, path in kept.items() if not path.exists() or sha256_file(path) != named[one])


def _require_films(found: Collection[str], listed: Sequence[str], backup: Path) -> None:
    if sorted(found) != sorted(listed):
        raise DataError(f"{backup / LIST} names other films than the records. Use another backup.")


def _require_keys(needed: Sequence[str], keys: Keyring) -> None:
    missing = [one for one in needed if one not in keys.ids]
    if missing:
        raise DataError(
            f"The backup is encrypted with the data key {', '.join(missing)}, which is not given. Give it in "
            "HILUM_DATA_KEY_FILE or HILUM_DATA_KEY; a backup holds no keys, and nobody can read it without."
        )


def _copy_films(
    films: Collection[str], source: Path, target: Path, keys: Keyring, progress: Progress, title: str, *, mend: str
) -> None:
    """Copy and check them all, so that what is amiss is named at once and not one a try."""
    (target / "films").mkdir()
    amiss: list[str] = []
    with progress.bar(title, len(films)) as bar:
        for sha256 in sorted(films):
            place = film_path(target / "films", sha256)
            place.parent.mkdir(exist_ok=True)
            try:
                shutil.copyfile(film_path(source / "films", sha256), place)
                _check(StoredFilm(path=place, file_sha256=sha256, keys=keys))
            except FileNotFoundError:
                amiss.append(f"{film_path(Path('films'), sha256)} is missing")
            except FilmError:
                amiss.append(f"{film_path(Path('films'), sha256)} is damaged")
            bar.advance()
    if amiss:
        more = f" and {len(amiss) - NAMED} more" if len(amiss) > NAMED else ""
        raise DataError(
            f"{len(amiss)} of {len(films)} film files in {source}: {', '.join(amiss[:NAMED])}{more}. {mend}"
        )


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
        known = known and listed.get("records", SQLITE) in (SQLITE, DUMP)
        _ = listed["database"], list(listed["films"]), list(listed.get("data_keys", ())), dict(listed["beside"])
    except (OSError, ValueError, KeyError, TypeError):
        known = False
    if not known:
        raise UsageError(f"{backup} is no backup of this version of hilum. Give a folder that hilum backup wrote.")
    return dict(listed)


def _whole_audit(url: str, folder: Path) -> int:
    """Rows of the audit, compared with the heads in a folder.

    Raises:
        DataError: it was changed.
    """
    heads = folder / HEADS  # a backup that was made without them has to come back all the same
    keys = public_keys(folder) if heads.exists() else ()
    proof = prove(url=url, export=None, heads=heads, heads_given=False, keys=keys)
    verdict = proof.verdict
    if not verdict.whole:
        raise DataError(f"The audit was changed at row {verdict.first_bad}: {verdict.reason}")
    return verdict.rows
