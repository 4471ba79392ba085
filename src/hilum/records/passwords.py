"""Passwords, kept as argon2id only (RFC 9106), and never shorter than twelve characters."""

import threading
from typing import TYPE_CHECKING

from hilum.errors import UsageError

if TYPE_CHECKING:
    from argon2 import PasswordHasher

SHORTEST, LONGEST = 12, 256
COST = (3, 64 * 1024, 4)
"""Passes, KiB and lanes: the second recommendation of RFC 9106, section 4."""

AT_ONCE = threading.BoundedSemaphore(2)
"""Each hash takes 64 MiB for a moment: so many at once, whoever knocks."""


def hash_password(password: str, *, name: str = "") -> str:
    """A password as it is kept: argon2id with its parameters and salt.

    Args:
        password: 12 to 256 characters.
        name: of its user; a password that holds it is refused.

    Raises:
        UsageError: too short, too long, or made of the name.
    """
    if not SHORTEST <= len(password) <= LONGEST:
        raise UsageError(
            f"The password has {len(password)} characters. Give {SHORTEST} to {LONGEST}; a sentence is easiest to keep."
        )
    if len(name) >= 4 and name.casefold() in password.casefold():
        raise UsageError("The password holds the user's name. Give one that can't be guessed from it.")
    with AT_ONCE:
        return _hasher().hash(password)


def password_fits(kept: str, password: str) -> bool:
    """Whether a password is the one that is kept; an unknown user's costs as much time.

    Args:
        kept: what :func:`hash_password` gave; empty for a user who has none, or for no user at all.
        password: as given.
    """
    from argon2.exceptions import Argon2Error, InvalidHashError

    hasher = _hasher()
    with AT_ONCE:
        try:
            if not kept:
                hasher.hash(password[:LONGEST])  # as long as a check, so that time doesn't tell who exists
                return False
            return hasher.verify(kept, password[:LONGEST])
        except (Argon2Error, InvalidHashError):
            return False


def _hasher() -> "PasswordHasher":
    from argon2 import PasswordHasher

    passes, kib, lanes = COST
    return PasswordHasher(time_cost=passes, memory_cost=kib, parallelism=lanes)
