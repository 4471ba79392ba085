"""Whether films are external: a claim that is checked, not believed."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from hilum.errors import DataError
from hilum.evaluation.known_data import NOT_RECORDED, canonical, films_in_common
from hilum.predictions import Predictions


@dataclass(frozen=True, slots=True, kw_only=True)
class Development:
    """What the model has seen until now: training, validation and calibration."""

    film_ids: frozenset[str] = field(default_factory=frozenset)
    """SHA-256 of every film."""
    patient_ids: frozenset[str] = field(default_factory=frozenset)
    """Every patient."""
    sources: frozenset[str] = field(default_factory=frozenset)
    """Every source."""
    pretrained_on: tuple[str, ...] = ()
    """Names of the data that the backbone was pretrained on, such as ``ImageNet-1k``."""


def why_not_external(
    films: Predictions, seen: Development, *, data_names: Sequence[str] = (), copies: int = 0
) -> tuple[str, ...]:
    """Why films can't be called external; empty when they can.

    Args:
        films: the films, with their sources.
        seen: what the model has seen.
        data_names: names that the films' data go by (their sources are looked for as well).
        copies: films that look like copies of ones the model has seen, without being the same file.

    Returns:
        one sentence for each reason; no patient is named.
    """
    reasons: list[str] = []
    shared_films = len(seen.film_ids & set(films.film_ids))
    if shared_films:
        reasons.append(f"{shared_films} of {len(films)} films were already used to develop the model.")
    if copies:
        reasons.append(f"{copies} of {len(films)} films look like copies of films that were used to develop the model.")
    shared_patients = len(seen.patient_ids & set(films.patient_ids))
    if shared_patients:
        reasons.append(f"{shared_patients} patients also have films that were used to develop the model.")
    sources = {source or NOT_RECORDED for source in films.groups.get("source", (NOT_RECORDED,))}
    if NOT_RECORDED in sources:
        reasons.append("The source of some films is not recorded, so nobody can say that it is another one.")
    for source in sorted((sources & seen.sources) - {NOT_RECORDED}):
        reasons.append(f"Films of source '{source}' were used to develop the model.")
    reasons += _pretraining(sorted(sources | set(data_names)), seen.pretrained_on)
    return tuple(reasons)


def refuse(reasons: Sequence[str], *, films: str, model: str) -> None:
    """Refuse to call films external where something speaks against it.

    Args:
        reasons: from :func:`why_not_external`.
        films: what the films are, such as their manifest's path.
        model: what the model is, such as the run's path.

    Raises:
        DataError: there are reasons; the message gives all of them, and the mend.
    """
    if reasons:
        raise DataError(
            f"{films} can't be called external to {model}: {' '.join(reasons)} Leave out the films that are shared, or "
            "evaluate without --external: then nothing is claimed for another hospital."
        )


def _pretraining(names: Sequence[str], pretrained_on: Sequence[str]) -> list[str]:
    reasons = []
    for name in names:
        for known in pretrained_on:
            common = sorted(films_in_common(name, known)) if NOT_RECORDED not in (name, known) else []
            if canonical(name) == canonical(known) and common:
                reasons.append(f"The backbone was pretrained on '{name}'.")
            elif common:
                reasons.append(
                    f"The backbone was pretrained on '{known}', which has films of {', '.join(common)} as '{name}' has."
                )
    if NOT_RECORDED in pretrained_on:
        reasons.append(
            "What the backbone was pretrained on is not recorded, so nobody can say that it has not seen these films; "
            "declare it with --pretrained-on NAME, or as 'pretrained_on' in the weights file's metadata."
        )
    return reasons
