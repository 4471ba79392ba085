"""Whether films are external: a claim that is checked, not believed."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from hilum.predictions import NOT_RECORDED, Predictions


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


def why_not_external(films: Predictions, seen: Development, *, data_names: Sequence[str] = ()) -> tuple[str, ...]:
    """Why films can't be called external; empty when they can.

    Args:
        films: the films, with their sources.
        seen: what the model has seen.
        data_names: names that the films' data go by (their sources are looked for as well).

    Returns:
        one sentence for each reason; no patient is named.
    """
    reasons = []
    shared_films = len(seen.film_ids & set(films.film_ids))
    if shared_films:
        reasons.append(f"{shared_films} of {len(films)} films were already used to develop the model.")
    shared_patients = len(seen.patient_ids & set(films.patient_ids))
    if shared_patients:
        reasons.append(f"{shared_patients} patients also have films that were used to develop the model.")
    sources = {source or NOT_RECORDED for source in films.groups.get("source", (NOT_RECORDED,))}
    if NOT_RECORDED in sources:
        reasons.append("The source of some films is not recorded, so nobody can say that it is another one.")
    for source in sorted((sources & seen.sources) - {NOT_RECORDED}):
        reasons.append(f"Films of source '{source}' were used to develop the model.")
    pretrained = {name.casefold() for name in seen.pretrained_on}
    for name in sorted(sources | set(data_names)):
        if name.casefold() in pretrained:
            reasons.append(f"The backbone was pretrained on '{name}'.")
    return tuple(reasons)
