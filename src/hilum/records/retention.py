"""How long a site keeps what."""

from dataclasses import dataclass

from hilum.errors import UsageError


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """How long a site keeps what; counted from when a film came first."""

    pixels_days: int = 0
    """Days that films' files are kept; 0 for ever."""
    identifiers_days: int = 0
    """Days that it is kept who a film is of; 0 for ever."""


def retention_of(pixels_days: int, identifiers_days: int) -> Retention:
    """A site's retention.

    Raises:
        UsageError: identifiers would outlive themselves in the films' own headers.
    """
    if identifiers_days and not 0 < pixels_days <= identifiers_days:
        kept = f"{pixels_days} days" if pixels_days else "for ever"
        raise UsageError(
            f"Who films are of would be forgotten after {identifiers_days} days, but the films, which say it as well, "
            f"are kept {kept}. Set HILUM_RETAIN_PIXELS_DAYS to 1 … {identifiers_days}."
        )
    return Retention(pixels_days=pixels_days, identifiers_days=identifiers_days)
