"""When the model gives no label: one pure rule a kind of doubt, each with a sentence that a person understands."""

import numpy as np

from hilum.arrays import Array
from hilum.bundle.schema import BundleInfo


def reasons_to_abstain(
    info: BundleInfo,
    *,
    probs: Array,
    member_std: Array,
    mc_std: Array,
    mutual_information: float,
    ood_distance: float | None,
) -> tuple[str, ...]:
    """Why this film goes to a person without a label; empty when the model answers.

    Args:
        info: the bundle's limits.
        probs: [k] calibrated probabilities.
        member_std: [k] standard deviation of the members' probabilities.
        mc_std: [k] standard deviation of the probabilities over dropout masks and members.
        mutual_information: in nats.
        ood_distance: distance from usual films; None when the bundle has no reference.
    """
    limits, likeliest = info.abstention, int(probs.argmax())
    reasons = [*_unlike(info, ood_distance), *_unlikely(info, probs), *_several(info, probs)]
    if limits.mutual_information is not None and not mutual_information <= limits.mutual_information:
        reasons.append(
            f"The model contradicts itself when parts of it are left out (mutual information {mutual_information:.3f}; "
            f"up to {limits.mutual_information:.3f} is accepted)."
        )
    if limits.mc_std is not None and not mc_std[likeliest] <= limits.mc_std:
        reasons.append(
            f"The probability of {info.findings[likeliest]} wavers when parts of the model are left out (spread "
            f"{mc_std[likeliest]:.3f}; up to {limits.mc_std:.3f} is accepted)."
        )
    if limits.member_std is not None and not member_std[likeliest] <= limits.member_std:
        reasons.append(
            f"The members of the ensemble disagree about {info.findings[likeliest]} (spread "
            f"{member_std[likeliest]:.2f}; up to {limits.member_std:.2f} is accepted)."
        )
    return tuple(reasons)


def _unlike(info: BundleInfo, distance: float | None) -> list[str]:
    """Too far from the films that the model was made with: beyond all usual ones, or beyond the policy's own limit."""
    if info.ood is None or distance is None:
        return []
    own = info.abstention.ood_distance
    limit = info.ood.threshold if own is None else min(own, info.ood.threshold)
    if distance <= limit:
        return []
    usual = "usual" if limit == info.ood.threshold else "accepted"
    return [
        f"The film is unlike the films that the model was made with (distance {distance:.2f}; up to {limit:.2f} is "
        f"{usual}), so its answer would be a guess."
    ]


def _unlikely(info: BundleInfo, probs: Array) -> list[str]:
    limits, likeliest, reasons = info.abstention, int(probs.argmax()), []
    if limits.least_probability is not None and not probs[likeliest] >= limits.least_probability:
        reasons.append(
            f"No finding is likely enough: the likeliest, {info.findings[likeliest]}, has a "
            f"probability of {100 * probs[likeliest]:.1f} %, and {100 * limits.least_probability:.1f} % is needed."
        )
    if limits.entropy is not None:
        values = np.asarray(probs, dtype=np.float64)
        entropy = -float((values * np.log(np.where(values > 0, values, 1.0))).sum())
        if not entropy <= limits.entropy:
            reasons.append(
                f"The probability is spread over several findings (entropy {entropy:.2f}; up to {limits.entropy:.2f} "
                "is accepted)."
            )
    return reasons


def _several(info: BundleInfo, probs: Array) -> list[str]:
    """More findings than accepted stay possible (conformal prediction set), or none is."""
    limits = info.abstention
    if limits.set_size is None:
        return []
    held = [name for name, p in zip(info.findings, probs, strict=True) if not p < limits.set_limits[name] - 1e-9]
    if not held and limits.set_size < len(info.findings):
        return ["No finding is likely enough to enter the prediction set, so the film fits none of them."]
    if len(held) <= limits.set_size:
        return []
    return [
        f"Several findings remain possible: the prediction set holds {', '.join(held)}, and up to {limits.set_size} is "
        "accepted."
    ]
