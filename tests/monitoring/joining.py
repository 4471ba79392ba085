"""Two simulated spans as one site's: their studies are numbered on."""

from dataclasses import replace

from hilum.records.observations import Observations, joined


def together(first: Observations, second: Observations) -> Observations:
    """One site's records after another's."""
    return joined(first, replace(second, study=second.study + int(first.study.max(initial=-1)) + 1))
