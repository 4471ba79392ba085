"""The verdict: what may be claimed, what not, and why, in sentences that stand before any number."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from hilum.evaluation.confounding import Flag
from hilum.evaluation.estimates import Estimate

Colour = Literal["red", "amber", "green"]
"""Red: nothing may be claimed of the disease. Amber: a limited claim. Green: it holds on films from elsewhere."""

Role = Literal["internal", "external"]
"""Films like those the model was developed on, or films of another source."""

SMALL_CLASS = 30
"""Fewer patients than this in a class get a warning."""

ORDER_ONLY = "Only that the model orders these very films as the figures say; what it goes by is unknown."


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What may be claimed, what not, and why."""

    colour: Colour
    """Red, amber or green."""
    headline: str
    """One sentence."""
    may_claim: tuple[str, ...] = ()
    """What these films show."""
    may_not_claim: tuple[str, ...] = ()
    """What they don't."""
    why: tuple[str, ...] = ()
    """The reasons for red; empty otherwise."""
    reservations: tuple[str, ...] = ()
    """What limits the claim: reasons for amber, which stand beside those for red; empty for green."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What a verdict is made from."""

    role: Role
    """Internal or external."""
    auroc: Mapping[str, Estimate]
    """AUROC of each finding against the rest."""
    n: int
    """Labelled films."""
    unscored: int = 0
    """Labelled films without a score."""
    flags: Sequence[Flag] = ()
    """From :mod:`hilum.evaluation.confounding`."""
    warnings: Sequence[str] = ()
    """Sentences: small samples, optimistic calibration and the like."""
    not_external: Sequence[str] = ()
    """Why the films can't be called external, for the external role."""


def sample_warnings(patients: Mapping[str, int]) -> tuple[str, ...]:
    """One sentence for each class that is absent or small."""
    sentences = []
    for finding, count in patients.items():
        if count == 0:
            sentences.append(f"No labelled film shows {finding}: nothing about it can be measured.")
        elif count < SMALL_CLASS:
            who = "patient shows" if count == 1 else "patients show"
            sentences.append(f"Only {count} {who} {finding}: its figures are uncertain, as their intervals say.")
    return tuple(sentences)


def judge(evidence: Evidence) -> Verdict:
    """Weigh the evidence of one test.

    Red: confounding, films without a score, no labelled film, or no finding better than chance. Amber: anything that
    limits the claim, and every internal test, which can't speak for another hospital. Green: an external test
    with nothing against it.
    """
    red = _red_reasons(evidence)
    amber = [flag.sentence for flag in evidence.flags if flag.severity == "amber"]
    amber += list(evidence.warnings)
    amber += [f"Not external: {reason}" for reason in evidence.not_external]
    amber += [
        f"AUROC of {name} is not estimable: {e.reason}"
        for name, e in evidence.auroc.items()
        if not e.estimable and e.reason != f"No labelled film shows {name}."  # a warning says that already
    ]
    amber += [
        f"{name} is not told from the rest better than chance: AUROC {e.text()}."
        for name, e in evidence.auroc.items()
        if e.bounded and e.low <= 0.5
    ]
    colour: Colour = "red" if red else "amber" if amber or evidence.role == "internal" else "green"
    return Verdict(
        colour=colour,
        headline=_headline(colour, evidence, bool(red)),
        may_claim=_claims(evidence, bool(red)),
        may_not_claim=_no_claims(evidence),
        why=tuple(dict.fromkeys(red)),
        reservations=tuple(dict.fromkeys(amber)),
    )


def _red_reasons(evidence: Evidence) -> list[str]:
    if evidence.n == 0:
        return ["There is no labelled film."]
    if evidence.unscored:
        return [
            f"{evidence.unscored} of {evidence.n} labelled films have no score (NaN): the model failed on them, and "
            "figures without them would flatter it."
        ]
    reasons = [flag.sentence for flag in evidence.flags if flag.severity == "red"]
    known = [e for e in evidence.auroc.values() if e.bounded]
    if known and all(e.low <= 0.5 for e in known):
        reasons.append("No finding is told from the rest better than chance.")
    return reasons


def _headline(colour: Colour, evidence: Evidence, red: bool) -> str:
    if red and evidence.n == 0:
        return "There is nothing to judge."
    if red and evidence.unscored:
        return "The model gave no score for some films, so nothing can be claimed."
    flags = [flag for flag in evidence.flags if flag.severity == "red"]
    if flags and all(flag.code.startswith("audit-") for flag in flags):
        return (
            "These figures can't be taken for detection of disease: the label can be read from what is not the disease."
        )
    if flags:
        return "These figures can't be taken for detection of disease: the label goes with where the film comes from."
    if red:
        return "The model does no better than chance on these films."
    if colour == "green":
        return "The model holds on films of a source that it has never seen."
    if evidence.role == "external" and not evidence.not_external:
        return "The model was tested on films of another source; read the reservations before the figures."
    return "These figures hold for films like these; they are not shown for any other hospital."


def _claims(evidence: Evidence, red: bool) -> tuple[str, ...]:
    if evidence.n == 0 or evidence.unscored:
        return ()
    if red:
        return (f"Only that the model orders these {evidence.n} films as the figures say; what it goes by is unknown.",)
    return tuple(
        f"On these films {name} is told from the rest with AUROC {e.text()}, measured on {e.patients} patients."
        for name, e in evidence.auroc.items()
        if e.bounded and e.low > 0.5
    )


def _no_claims(evidence: Evidence) -> tuple[str, ...]:
    sentences = []
    confounded = [f.finding for f in evidence.flags if f.severity == "red" and f.finding]
    for name in dict.fromkeys(confounded):
        sentences.append(f"That the model detects {name}.")
    if evidence.role == "internal" or evidence.not_external:
        sentences.append("Any performance in another hospital: only films of another source can show it.")
    else:
        sentences.append("The same performance in a third hospital: test there before use.")
    sentences.append("Use for diagnosis: no reader study and no clearance stands behind these figures.")
    return tuple(sentences)


def drops(internal: Mapping[str, Estimate], external: Mapping[str, Estimate]) -> tuple[str, ...]:
    """Findings whose AUROC is clearly lower outside than inside (intervals that don't meet)."""
    sentences = []
    for name, inside in internal.items():
        outside = external.get(name)
        if outside is not None and inside.bounded and outside.bounded and outside.high < inside.low:
            sentences.append(f"AUROC of {name} falls from {inside.text()} inside to {outside.text()} outside.")
    return tuple(sentences)


def overall(
    internal: Verdict, external: Verdict | None, falls: Sequence[str] = (), data: Sequence[Flag] = ()
) -> Verdict:
    """One verdict for a report.

    Args:
        internal: of the internal test.
        external: of the external test, when there is one; it speaks for other hospitals, so the internal test needn't.
        falls: sentences from :func:`drops`; they make it amber at least.
        data: flags of the whole data set that the model was developed on; red ones make the verdict red.
    """
    of_data = judge(Evidence(role="internal", auroc={}, n=1, flags=data))
    parts = [internal, *([external] if external else []), of_data]
    why = dict.fromkeys([*_sides(internal.why, external.why if external else None), *of_data.why])
    reservations = dict.fromkeys(
        [*_sides(internal.reservations, external.reservations if external else None), *falls, *of_data.reservations]
    )
    worst = next((verdict for verdict in parts if verdict.colour == "red"), None)
    leading = worst or external or internal
    colour: Colour = "red" if worst else "amber" if reservations or leading.colour == "amber" else "green"
    headline = leading.headline
    if colour == "amber" and leading.colour == "green":
        headline = "The model was tested on films of another source; read the reservations before the figures."
    if worst:
        claims: tuple[str, ...] = (ORDER_ONLY,) if any(verdict.may_claim for verdict in parts) else ()
        red_parts = [verdict for verdict in parts if verdict.colour == "red"]
        no_claims = tuple(dict.fromkeys(text for verdict in red_parts for text in verdict.may_not_claim))
    else:
        claims = tuple(_sides(internal.may_claim, external.may_claim if external else None))
        no_claims = leading.may_not_claim
    return Verdict(
        colour=colour,
        headline=headline,
        may_claim=claims,
        may_not_claim=no_claims,
        why=tuple(why),
        reservations=tuple(reservations),
    )


def _sides(inside: Sequence[str], outside: Sequence[str] | None) -> list[str]:
    """Sentences of both tests, each saying which; what both say, and what there is of one test, as it is."""
    if outside is None:
        return list(inside)
    both = [text for text in inside if text in outside]
    inside_only = [f"Inside: {text}" for text in inside if text not in both]
    return both + inside_only + [f"Outside: {text}" for text in outside if text not in both]
