"""When the model gives no label: one pure rule a kind of doubt, each with a sentence that a person understands."""

from hilum.arrays import Array
from hilum.bundle.schema import BundleInfo


def reasons_to_abstain(
    info: BundleInfo,
    *,
    probs: Array,
    member_std: Array,
    mutual_information: float,
    ood_distance: float | None,
) -> tuple[str, ...]:
    """Why this film goes to a person without a label; empty when the model answers.

    Args:
        info: the bundle's limits.
        probs: [k] calibrated probabilities.
        member_std: [k] standard deviation of the members' probabilities.
        mutual_information: in nats.
        ood_distance: distance from usual films; None when the bundle has no reference.
    """
    limits, likeliest = info.abstention, int(probs.argmax())
    reasons = []
    if info.ood is not None and ood_distance is not None and not ood_distance <= info.ood.threshold:
        reasons.append(
            f"The film is unlike the films that the model was made with (distance {ood_distance:.2f}; up to "
            f"{info.ood.threshold:.2f} is usual), so its answer would be a guess."
        )
    if limits.least_probability is not None and not probs[likeliest] >= limits.least_probability:
        reasons.append(
            f"No finding is likely enough: the likeliest, {info.findings[likeliest]}, has probability "
            f"{probs[likeliest]:.2f}, and {limits.least_probability:.2f} is needed."
        )
    if limits.mutual_information is not None and not mutual_information <= limits.mutual_information:
        reasons.append(
            f"The model contradicts itself when parts of it are left out (mutual information {mutual_information:.3f}; "
            f"up to {limits.mutual_information:.3f} is accepted)."
        )
    if limits.member_std is not None and not member_std[likeliest] <= limits.member_std:
        reasons.append(
            f"The members of the ensemble disagree about {info.findings[likeliest]} (spread "
            f"{member_std[likeliest]:.2f}; up to {limits.member_std:.2f} is accepted)."
        )
    return tuple(reasons)
