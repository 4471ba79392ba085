"""Users, their keys and their sessions; each change is in the audit, in the same transaction.

Secrets are random (256 bits) and kept as SHA-256; passwords, which people choose, as argon2id.
"""

import hashlib
import re
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import and_, delete, func, or_, select, update
from sqlalchemy.orm import Session

from hilum.errors import UsageError
from hilum.records.audit import Act, append
from hilum.records.creations import MadeBefore, Request, made_before, remember
from hilum.records.cursors import read_cursor
from hilum.records.database import Database
from hilum.records.key_memory import KeyMemory
from hilum.records.passwords import hash_password, password_fits
from hilum.records.roles import known_roles, known_scopes, scopes_of
from hilum.records.schema import ApiKeyRow, SessionRow, UserRow
from hilum.records.store import now

NAME = re.compile(r"[a-z0-9][a-z0-9._@-]{0,63}")
KEY_PREFIX, KEY_ID = "hilum_", re.compile(r"[0-9a-f]{16}")
TEMPORARY_HOURS, TEMPORARY_BYTES = 72, 12
"""How long a password that an admin set can be used, and its random bytes (96 bits)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionTimes:
    """How long a session lasts; what is done in it puts its end off, as far as ``whole`` allows."""

    idle: timedelta = timedelta(minutes=15)
    """It ends when nobody has done anything for so long."""
    whole: timedelta = timedelta(hours=12)
    """It ends so long after its login, whatever is done."""

    def end(self, began: datetime, active: datetime) -> datetime:
        """When a session ends that began and was last active then."""
        return min(began + self.whole, active + self.idle)

    @property
    def step(self) -> timedelta:
        """An end that would move by less is left, so that not every page is a write."""
        return self.idle / 20


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """A person or a program that may do what its roles say."""

    name: str
    """Its name."""
    roles: tuple[str, ...]
    """Its roles."""
    created_at: datetime
    """When it was made (UTC)."""
    disabled_at: datetime | None
    """Since when it may do nothing; None while it may."""
    has_password: bool
    """False for one that comes by keys only."""
    temporary_until: datetime | None = None
    """Until when the password that an admin set can be used (UTC); None for one of the user's own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKey:
    """A program's key; its secret is known to its owner alone."""

    id: str
    """Public part, by which it is revoked."""
    user: str
    """Whose."""
    label: str
    """What for."""
    scopes: tuple[str, ...]
    """What it may do, as far as its user's roles allow it too."""
    created_at: datetime
    """When it was made (UTC)."""
    expires_at: datetime | None
    """Until when it counts; None for no end."""
    revoked_at: datetime | None
    """Since when it counts no more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who asks, and what it may do."""

    name: str
    """The user's name."""
    scopes: frozenset[str]
    """What it may do."""
    session: str | None = None
    """Digest of the session's cookie; None when a key was given."""
    left_s: float | None = None
    """Seconds until the session ends if nothing is done; None when a key was given."""
    at_most_s: float | None = None
    """Seconds until it ends whatever is done; None when a key was given."""


class OwnPasswordFirst(UsageError):
    """The password is the temporary one that an admin set: the user must choose one of their own first."""


class Access:
    """The acts on users, keys and sessions, each one transaction.

    Args:
        database: where they are kept.
        clock: gives the instant; tests give their own.
        times: how long a session lasts.
    """

    def __init__(
        self, database: Database, clock: Callable[[], datetime] = now, *, times: SessionTimes | None = None
    ) -> None:
        self._database, self._clock, self._times = database, clock, times or SessionTimes()
        self.memory: KeyMemory[Caller] = KeyMemory(database, clock)

    def add_user(
        self, name: str, roles: Sequence[str], *, password: str | None, actor: str, request: Request | None = None
    ) -> User:
        """Make a user.

        Args:
            name: lower-case letters, digits and ``. _ @ -``; it stands in the audit, so it should be a person's.
            roles: one or more of :data:`hilum.records.roles.ROLES`.
            password: None for a user that comes by keys only.
            actor: who makes it.
            request: the same request again makes no second one, and gives the first; None for one without a key.

        Raises:
            UsageError: the name is taken or not one, a role is none, the password is too short, or the request's key
                was used for another request.
        """
        if not NAME.fullmatch(name):
            raise UsageError(
                f"{name!r} is no user's name. Give 1 to 64 lower-case letters, digits and . _ @ - with a letter or "
                "digit first."
            )
        roles = known_roles(roles)
        kept = hash_password(password, name=name) if password is not None else ""
        with self._database.write() as session:
            if (before := made_before(session, request, self._clock())) is not None:
                return _user(_existing(session, before))
            if session.get(UserRow, name) is not None:
                raise UsageError(f"There is a user {name!r} already. Choose another name.")
            row = UserRow(name=name, password=kept, roles=" ".join(roles), created_at=self._clock())
            session.add(row)
            remember(session, request, name, self._clock())
            self._note(session, actor, "user.added", name, roles=list(roles), password=bool(kept))
            return _user(row)

    def add_first_admin(self, name: str, roles: Sequence[str], password: str) -> User:
        """Make the first admin, where there is none.

        Raises:
            UsageError: as :meth:`add_user`, or there is an admin already.
        """
        if self.has_admin():
            raise UsageError("There is an admin already. Ask it for a user.")
        return self.add_user(name, roles, password=password, actor="console")

    def users(self, *, after: str = "", limit: int | None = None) -> tuple[User, ...]:
        """Users by name.

        Args:
            after: only those behind this name.
            limit: most of them; None for all.
        """
        query = select(UserRow).where(UserRow.name > after).order_by(UserRow.name).limit(limit)
        with self._database.read() as session:
            return tuple(_user(row) for row in session.scalars(query))

    def has_admin(self) -> bool:
        """Whether someone can make users."""
        return any("admin" in user.roles and user.disabled_at is None for user in self.users())

    def set_password(self, name: str, password: str, *, actor: str) -> None:
        """Give a user another password; its sessions end.

        Raises:
            UsageError: no such user, or the password is too short.
        """
        kept = hash_password(password, name=name)
        with self._database.write() as session:
            row = _existing(session, name)
            row.password, row.temporary_until = kept, None
            session.execute(delete(SessionRow).where(SessionRow.user_name == name))
            self._note(session, actor, "user.password", name)

    def set_temporary_password(self, name: str, *, actor: str) -> str:
        """Give another user a password that is good for one login, behind which they choose their own.

        The user's sessions end; keys go on.

        Returns:
            the password, which is shown this once and kept as its hash only.

        Raises:
            UsageError: no such user, it is disabled, or it is the actor.
        """
        if name == actor:
            raise UsageError("You can't set your own password here, which could lock you out. Ask another admin.")
        password = secrets.token_urlsafe(TEMPORARY_BYTES)
        kept = hash_password(password)
        with self._database.write() as session:
            row = _existing(session, name)
            if row.disabled_at is not None:
                raise UsageError(f"The user {name!r} is disabled, so a password would open nothing.")
            row.password, row.temporary_until = kept, self._clock() + timedelta(hours=TEMPORARY_HOURS)
            session.execute(delete(SessionRow).where(SessionRow.user_name == name))
            self._note(session, actor, "user.password", name, temporary=True)
        return password

    def choose_password(self, name: str, password: str) -> None:
        """Replace the temporary password by the user's own.

        Raises:
            UsageError: it is no longer good, or the new one is too short or the same.
        """
        with self._database.read() as session:
            old = self._kept(_existing(session, name))
        if password_fits(old, password):
            raise UsageError("Choose another password than the temporary one, which others have seen.")
        kept = hash_password(password, name=name)
        with self._database.write() as session:
            row = _existing(session, name)
            if row.temporary_until is None or row.password != old or not old:
                raise UsageError("The temporary password is no longer good. Ask an admin for another one.")
            row.password, row.temporary_until = kept, None
            self._note(session, name, "user.password", name, temporary=False)

    def _kept(self, row: UserRow | None) -> str:
        """What a password must fit to come in by it; empty where none does."""
        if row is None or row.disabled_at is not None:
            return ""
        over = row.temporary_until is not None and row.temporary_until <= self._clock()
        return "" if over else row.password

    def disable(self, name: str, *, actor: str) -> None:
        """Let a user do nothing any more: its sessions end, its keys count no more. Its past stays in the audit.

        Raises:
            UsageError: no such user, or it is the last admin.
        """
        with self._database.revoking() as session:
            row = _existing(session, name)
            others = select(func.count()).where(
                UserRow.name != name, UserRow.disabled_at.is_(None), UserRow.roles.contains("admin")
            )
            if "admin" in row.roles.split() and not session.scalar(others):
                raise UsageError(f"{name!r} is the last admin. Make another one first.")
            row.disabled_at = row.disabled_at or self._clock()
            session.execute(delete(SessionRow).where(SessionRow.user_name == name))
            self._note(session, actor, "user.disabled", name)

    def add_key(
        self,
        user: str,
        scopes: Sequence[str] = (),
        *,
        label: str = "",
        days: int | None = None,
        actor: str,
        request: Request | None = None,
    ) -> tuple[ApiKey, str]:
        """Make a key for a program.

        Args:
            user: whose; the key can never do more than its user's roles.
            scopes: what it may do; empty for all that the roles allow.
            label: what for.
            days: until when it counts; None for no end.
            actor: who makes it.
            request: the same request again makes no second one; None for one without a key.

        Returns:
            the key, and its secret, which is shown this once and kept as a digest only.

        Raises:
            UsageError: no such user, a scope that its roles don't have, or the request's key was used before.
            MadeBefore: the same request made it already.
        """
        key_id, secret = secrets.token_hex(8), secrets.token_urlsafe(32)
        with self._database.write() as session:
            if (before := made_before(session, request, self._clock())) is not None:
                raise MadeBefore(before)
            allowed = scopes_of(_existing(session, user).roles.split())
            wanted = known_scopes(scopes or allowed)
            if beyond := sorted(set(wanted) - allowed):
                raise UsageError(f"{user!r} has no role with {', '.join(beyond)}, so its key can't have it either.")
            at = self._clock()
            row = ApiKeyRow(
                id=key_id,
                user_name=user,
                label=label[:64],
                secret_sha256=_digest(secret),
                scopes=" ".join(wanted),
                created_at=at,
                expires_at=None if days is None else at + timedelta(days=days),
            )
            session.add(row)
            remember(session, request, key_id, at)
            self._note(session, actor, "key.added", key_id, user=user, scopes=list(wanted), days=days)
            return _key(row), f"{KEY_PREFIX}{key_id}_{secret}"

    def list_keys(self, *, cursor: str | None = None, limit: int | None = None) -> tuple[ApiKey, ...]:
        """Keys, oldest first.

        Args:
            cursor: only those behind it, as :func:`hilum.records.cursors.write_cursor` makes it of a key.
            limit: most of them; None for all.

        Raises:
            UsageError: the cursor is none of ours.
        """
        query = select(ApiKeyRow).order_by(ApiKeyRow.created_at, ApiKeyRow.id).limit(limit)
        if cursor is not None:
            at, key_id = read_cursor(cursor)
            same_instant = and_(ApiKeyRow.created_at == at, ApiKeyRow.id > key_id)
            query = query.where(or_(ApiKeyRow.created_at > at, same_instant))
        with self._database.read() as session:
            return tuple(_key(row) for row in session.scalars(query))

    def revoke_key(self, key_id: str, *, actor: str) -> None:
        """Let a key count no more.

        Raises:
            UsageError: no such key.
        """
        with self._database.revoking() as session:
            row = session.get(ApiKeyRow, key_id) if KEY_ID.fullmatch(key_id) else None
            if row is None:
                raise UsageError("There is no key with this id. hilum users list-keys lists them.")
            row.revoked_at = row.revoked_at or self._clock()
            self._note(session, actor, "key.revoked", key_id)

    def by_key(self, given: str) -> Caller | None:
        """Who has this key; None when it counts for nothing."""
        key_id, _, secret = given.removeprefix(KEY_PREFIX).partition("_")
        if not given.startswith(KEY_PREFIX) or not secret:
            return None
        before = self._database.revocations
        with self._database.read() as session:
            found = session.execute(
                select(ApiKeyRow, UserRow)
                .join(UserRow, UserRow.name == ApiKeyRow.user_name)
                .where(ApiKeyRow.id == key_id, ApiKeyRow.revoked_at.is_(None), UserRow.disabled_at.is_(None))
            ).first()
            if found is None or not secrets.compare_digest(found[0].secret_sha256, _digest(secret)):
                return None
            key, user = found
            if key.expires_at is not None and key.expires_at <= self._clock():
                return None
            caller = Caller(name=user.name, scopes=scopes_of(user.roles.split()) & set(key.scopes.split()))
        self.memory.keep(given, caller, expires_at=key.expires_at, revocations=before)
        return caller

    def log_in(self, name: str, password: str) -> str | None:
        """Begin a session by password.

        Returns:
            the cookie; None when name and password don't fit, or the user may do nothing.

        Raises:
            OwnPasswordFirst: they fit, but the password is a temporary one.
        """
        with self._database.read() as session:
            row = session.get(UserRow, name) if NAME.fullmatch(name) else None
            kept = self._kept(row)
        if password_fits(kept, password):
            if row is not None and row.temporary_until is not None:
                raise OwnPasswordFirst("This password is a temporary one. Choose your own first.")
            return self.begin_session(name, how="password")
        with self._database.write() as session:
            # What was typed as a name may be a password: only a known name is written down.
            self._note(session, name if row is not None else "unknown", "login.failed", name if row is not None else "")
        return None

    def begin_session(self, name: str, *, how: str) -> str:
        """Begin a session for a user who is known to be there.

        Raises:
            UsageError: no such user, or it is disabled.
        """
        token = secrets.token_urlsafe(32)
        with self._database.write() as session:
            row = _existing(session, name)
            if row.disabled_at is not None:
                raise UsageError(f"The user {name!r} is disabled. Ask an admin.")
            at = self._clock()
            self._end_expired(session, at)
            ends = self._times.end(at, at)
            session.add(SessionRow(token_sha256=_digest(token), user_name=name, created_at=at, expires_at=ends))
            self._note(session, name, "login.succeeded", name, how=how)
        return token

    def by_session(self, token: str, *, active: bool = False) -> Caller | None:
        """Whose session this cookie is; None when it has ended, which is written down once.

        Args:
            token: the cookie.
            active: whether a person does something now, which puts the end off; what a page asks by itself doesn't.
        """
        found_by, at = _digest(token), self._clock()
        with self._database.read() as session:
            found = session.execute(
                select(SessionRow, UserRow)
                .join(UserRow, UserRow.name == SessionRow.user_name)
                .where(SessionRow.token_sha256 == found_by, UserRow.disabled_at.is_(None))
            ).first()
            if found is None:
                return None
            row, user = found
            began, ends, name, roles = row.created_at, row.expires_at, user.name, user.roles.split()
        last = began + self._times.whole
        if min(ends, last) <= at:
            with self._database.write() as session:
                self._end_expired(session, at)
            return None
        later = self._times.end(began, at)
        if active and abs(later - ends) >= self._times.step:
            with self._database.write() as session:
                row_of_it = update(SessionRow).where(SessionRow.token_sha256 == found_by)
                session.execute(row_of_it.values(expires_at=later))
            ends = later
        left_s, at_most_s = (round((end - at).total_seconds(), 3) for end in (min(ends, last), last))
        return Caller(name=name, scopes=scopes_of(roles), session=found_by, left_s=left_s, at_most_s=at_most_s)

    def _end_expired(self, session: Session, at: datetime) -> None:
        """End every session whose time is over, each with a row in the audit."""
        began_too_long_ago = SessionRow.created_at <= at - self._times.whole
        over = session.scalars(select(SessionRow).where(or_(SessionRow.expires_at <= at, began_too_long_ago))).all()
        for row in over:
            last = row.created_at + self._times.whole
            why = "idle" if row.expires_at < last else "whole"
            gone = session.execute(delete(SessionRow).where(SessionRow.token_sha256 == row.token_sha256))
            if getattr(gone, "rowcount", 0):  # else another process was faster
                ended = min(row.expires_at, last).isoformat()
                self._note(session, row.user_name, "session.expired", row.user_name, why=why, ended_at=ended)

    def log_out(self, caller: Caller) -> None:
        """End a session."""
        with self._database.write() as session:
            session.execute(delete(SessionRow).where(SessionRow.token_sha256 == caller.session))
            self._note(session, caller.name, "logout", caller.name)

    def _note(self, session: Session, actor: str, act: str, subject: str, **detail: object) -> None:
        append(session, Act(actor=actor, act=act, subject=subject, detail=detail), self._clock())


def csrf_token(session_digest: str) -> str:
    """What a page's forms must bring beside the cookie: made from it, and of no use without it."""
    return hashlib.sha256(b"hilum csrf\n" + session_digest.encode()).hexdigest()


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def _existing(session: Session, name: str) -> UserRow:
    row = session.get(UserRow, name) if NAME.fullmatch(name) else None
    if row is None:
        raise UsageError(f"There is no user {name!r}. hilum users list lists them.")
    return row


def _user(row: UserRow) -> User:
    return User(
        name=row.name,
        roles=tuple(row.roles.split()),
        created_at=row.created_at,
        disabled_at=row.disabled_at,
        has_password=bool(row.password),
        temporary_until=row.temporary_until,
    )


def _key(row: ApiKeyRow) -> ApiKey:
    return ApiKey(
        id=row.id,
        user=row.user_name,
        label=row.label,
        scopes=tuple(row.scopes.split()),
        created_at=row.created_at,
        expires_at=row.expires_at,
        revoked_at=row.revoked_at,
    )
