"""Every error that a caller can cause, in one tree.

::

    HilumError
    ├── UsageError            an argument or a setting is wrong
    │   ├── ConfigError       one or more fields of a config are wrong; all of them are reported at once
    │   └── MissingExtra      an optional part of the package is not installed
    ├── DataError             the data can't be used as they are
    │   ├── FilmError         one film can't be read; carries a machine-readable code
    │   ├── LabelError        a label is not one of the findings
    │   ├── ManifestError     one or more rows of a manifest are wrong; all of them are reported at once
    │   └── SplitError        a split that keeps patients apart is impossible
    ├── WeightsError          weights are missing, damaged or don't fit the network
    ├── RunError              a run's folder is missing, incomplete or belongs to another config
    ├── TrainingError         training can't go on (a loss that is not a number, an empty class)
    ├── BundleError           a bundle is damaged, changed or of another schema
    └── ServiceError          the service can't start or can't accept

A message says what was wrong (the value), where (parameter, file and row, tag) and the mend. No patient identifier
ever appears in a message.
"""

import re
from collections.abc import Sequence
from difflib import SequenceMatcher, get_close_matches


class HilumError(Exception):
    """Base of all errors that hilum raises on purpose; its text is one clear sentence for a person."""


class UsageError(HilumError):
    """An argument or a setting is wrong."""


class ConfigError(UsageError):
    """One or more fields of a config are wrong.

    Attributes:
        problems: one sentence for each wrong field.
    """

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(self.problems))


class MissingExtra(UsageError):
    """An optional part of the package is needed and not installed.

    Args:
        extra: name of the extra, such as ``train``.
        needed_for: what needs it, such as ``hilum train``.
    """

    def __init__(self, extra: str, needed_for: str) -> None:
        self.extra = extra
        super().__init__(f"{needed_for} needs the {extra!r} extra: install it with pip install 'hilum[{extra}]'.")


class DataError(HilumError):
    """The data can't be used as they are."""


class FilmError(DataError):
    """One film can't be read.

    Attributes:
        code: a stable machine-readable reason, such as ``truncated`` or ``too-large``.
    """

    def __init__(self, message: str, *, code: str) -> None:
        self.code = code
        super().__init__(message)

    def __reduce__(self) -> tuple[object, ...]:
        # The default would drop the keyword; decoding runs in a child process, so this error is pickled.
        return (_film_error, (str(self), self.code))


def _film_error(message: str, code: str) -> FilmError:
    return FilmError(message, code=code)


class LabelError(DataError):
    """A label is not one of the findings."""


class ManifestError(DataError):
    """One or more rows of a manifest are wrong.

    Attributes:
        problems: one sentence for each wrong row: file, row, column, value and mend.
    """

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(self.problems))


class SplitError(DataError):
    """A split that keeps patients apart is impossible."""


class WeightsError(HilumError):
    """Weights are missing, damaged or don't fit the network."""


class RunError(HilumError):
    """A run's folder is missing, incomplete or belongs to another config."""


class TrainingError(HilumError):
    """Training can't go on."""


class BundleError(HilumError):
    """A bundle is damaged, changed or of another schema."""


class ServiceError(HilumError):
    """The service can't start or can't accept a film."""


def nearest(name: str, known: Sequence[str], *, listed_by: str = "") -> str:
    """Say which names are known, nearest first: the tail of a message about an unknown name.

    Args:
        name: the unknown name.
        known: the names that would have been right.
        listed_by: the command that lists them, where they are too many for a message.

    Returns:
        ``Did you mean 'x'? Known: x, y, z.`` or, without a near match, ``Known: x, y, z.`` With a command
        ``hilum models list shows all 36.`` in place of the names.
    """
    close = set(get_close_matches(name, known, n=max(1, len(known)), cutoff=0.6))
    best = max((one for one in known if one in close), key=lambda one: _likeness(one, name), default="")
    hint = f"Did you mean {best!r}? " if best else ""
    return hint + (f"{listed_by} shows all {len(known)}." if listed_by else f"Known: {', '.join(known)}.")


def _likeness(one: str, name: str) -> tuple[float, float, int]:
    """Letters in common in order; then in any, so that two exchanged are nearer than one replaced; then numbers."""
    matched = SequenceMatcher(None, one, name)
    ours, theirs = ([int(digits) for digits in re.findall(r"\d{1,9}", text)] for text in (one, name))
    apart = sum(abs(here - there) for here, there in zip(ours, theirs, strict=False))
    return matched.ratio(), matched.quick_ratio(), -apart
