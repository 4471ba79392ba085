"""Who may do what: scopes are what a route asks for, roles are sets of scopes that a person has."""

from collections.abc import Iterable, Mapping

from hilum.errors import UsageError, nearest

SCOPES: Mapping[str, str] = {
    "films:read": "see films, answers, heat maps and the worklist",
    "films:send": "send films",
    "dicom:read": "find and fetch DICOM objects, which name the patient",
    "reviews:write": "agree with answers or override them",
    "models:write": "change the model, put failed films back into the queue, set up reader studies",
    "users:write": "make and disable users and keys",
    "audit:read": "read the audit",
    "metrics:read": "read counts for monitoring",
    "alarms:read": "see alarms of the monitor and who took them on",
}
"""Each scope and what it allows."""

ROLES: Mapping[str, frozenset[str]] = {
    "viewer": frozenset(("films:read",)),
    "reviewer": frozenset(("films:read", "films:send", "dicom:read", "reviews:write")),
    "model-manager": frozenset(("films:read", "films:send", "models:write", "metrics:read", "alarms:read")),
    "admin": frozenset(
        ("films:read", "films:send", "dicom:read", "models:write", "users:write", "metrics:read", "alarms:read")
    ),
    "auditor": frozenset(("audit:read", "alarms:read")),
}
"""Each role's scopes. No role holds all: who makes users doesn't read the audit of it, and the auditor sees no film."""


def scopes_of(roles: Iterable[str]) -> frozenset[str]:
    """What several roles allow together.

    Raises:
        UsageError: one of them is no role.
    """
    return frozenset[str]().union(*(ROLES[role] for role in known_roles(roles)))


def known_roles(roles: Iterable[str]) -> tuple[str, ...]:
    """Roles in their own order, each once.

    Raises:
        UsageError: one of them is no role, or there are none.
    """
    given = set(roles)
    _known("role", given, tuple(ROLES))
    return tuple(role for role in ROLES if role in given)


def known_scopes(scopes: Iterable[str]) -> tuple[str, ...]:
    """Scopes in their own order, each once.

    Raises:
        UsageError: one of them is no scope, or there are none.
    """
    given = set(scopes)
    _known("scope", given, tuple(SCOPES))
    return tuple(scope for scope in SCOPES if scope in given)


def _known(what: str, given: set[str], known: tuple[str, ...]) -> None:
    wrong = sorted(given - set(known))
    if wrong:
        raise UsageError(f"{wrong[0]!r} is no {what}. {nearest(wrong[0], known)}")
    if not given:
        raise UsageError(f"No {what} is given. Known: {', '.join(known)}.")
