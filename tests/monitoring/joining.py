"""Two simulated spans as one site's: their patients are numbered on."""

from dataclasses import replace

from hilum.records.observations import Observations, joined


def together(first: Observations, second: Observations) -> Observations:
    """One site's records after another's."""
    return joined(first, replace(second, patient=second.patient + int(first.patient.max(initial=-1)) + 1))
