"""A run's model card, from its artefacts alone: config, result, manifest and what was evaluated until now."""

import math
from collections.abc import Mapping

import numpy as np

from hilum.bundle.card import DataSet, KeyMetric, Measured, ModelCard, Stated
from hilum.bundle.schema import BundleInfo, calibration_of
from hilum.datasets.manifest import Manifest
from hilum.evaluation.confounding import WORDS
from hilum.evaluation.estimates import Estimate
from hilum.evaluation.scorecard import Scorecard
from hilum.runs.run import Run
from hilum.runs.summary import operating_words

FAIRNESS_GROUPS = ("sex", "age_band")
"""Groups of people whose figures a card shows; all groups are in the report."""

OUT_OF_FOLD = "out-of-fold predictions"

TEST_TYPES = {
    "internal": "films like those of development, by other patients",
    "external": "films of another source, by patients that development never saw",
}


def model_card(
    run: Run, info: BundleInfo, cards: Mapping[str, Scorecard], *, abstention: str, stated: Stated | None = None
) -> ModelCard:
    """The card.

    Args:
        run: a finished run.
        info: the bundle's description.
        cards: scorecards by name of the evaluation; none leaves the numbers unstated.
        abstention: when the bundle gives no label.
        stated: what people state; None for nothing.
    """
    films, weights, size = run.films, run.result["weights"] or {}, info.preprocessing.size
    network = f"{run.config.backbone}, {size} × {size}, {info.members} member{'s' if info.members > 1 else ''}"
    findings = ", ".join(info.findings)
    return ModelCard(
        name=info.name,
        version=info.version,
        created=info.created,
        summary=f"Says how probable each of {findings} is on a frontal chest radiograph. A convolutional network: "
        f"{network}.",
        intended_use=info.intended_use,
        intended_users="Radiologists and researchers who validate it; a person decides on every film.",
        not_intended_for=("diagnosis without a person", "children", "lateral films", "CT, or any other modality"),
        analysed=_analysed(info),
        findings=info.findings,
        outputs=f"For each of {findings}: calibrated probability, its spread under dropout and members, and a heat "
        "map; the likeliest finding as label, or none when in doubt.",
        inputs=f"DICOM films (CR, DX) or picture files; the network gets 8-bit grey tiles of {size} × {size} pixels "
        "and gives 32-bit floating-point numbers.",
        architecture=network,
        weights=f"Training started from the weights {weights['name']!r}; their licence: "
        f"{weights.get('licence') or 'not stated'}."
        if weights.get("name")
        else "None: training started from random weights.",
        training=f"Stages {', '.join(stage.name for stage in run.recipe.stages)}; imbalance: "
        f"{run.recipe.imbalance.text()}; seed {run.config.seed}.",
        bias_mitigation=f"Classes of unequal size: {run.recipe.imbalance.text()}. No patient is on both sides of a "
        "split.",
        biases=tuple(f"{card.name}: {flag.sentence}" for card in cards.values() for flag in card.confounding.flags),
        data=(_data_set("fit part", films.select(films.rows(part="fit"))), *(_tested(card) for card in cards.values())),
        usefulness=_usefulness(cards),
        fairness=_fairness(cards),
        safety=_safety(cards, abstention),
        operating_points=info.thresholds,
        operating_rules=f"{operating_words(run)}; on {_local(run) or OUT_OF_FOLD}.",
        calibration=f"{calibration_of(info)} Fitted on {_local(run, 'recalibrated') or OUT_OF_FOLD}.",
        abstention=abstention,
        explanation="Grad-CAM of every finding in closed form, from the same pass as the probabilities.",
        warnings=tuple(
            dict.fromkeys(
                flag.sentence for card in cards.values() for flag in card.confounding.flags if flag.severity == "red"
            )
        ),
        limits=tuple(f"{card.name}: {sentence}" for card in cards.values() for sentence in card.warnings),
        integrity="Every member's SHA-256 is checked before anything of it is used.",
        stated=stated or Stated(),
        provenance={**info.fingerprints, "hilum": run.result["environment"]["packages"].get("hilum")},
    )


def _analysed(info: BundleInfo) -> str:
    gate = info.gate
    return (
        f"Modality {' or '.join(gate.modalities)}, view {' or '.join(gate.views)}, body part "
        f"{' or '.join(gate.body_parts).lower()}, age {gate.minimum_age_years:g} years or more, where the film says "
        "so; no blank, noisy or tiny ones."
    )


def _data_set(name: str, films: Manifest) -> DataSet:
    def counts(column: str) -> dict[str, int]:
        values, numbers = np.unique(films.column(column).astype(str), return_counts=True)
        return {value or "not recorded": count for value, count in zip(values.tolist(), numbers.tolist(), strict=True)}

    makers = ", ".join(sorted(set(films.strings("manufacturer")) - {""}))
    return DataSet(
        name=name,
        films=len(films),
        patients=len(set(films.strings("patient_id"))),
        labels=counts("label"),
        sources=counts("source"),
        fingerprint=films.fingerprint,
        note=f"devices by {makers}" if makers else "",
    )


def _tested(card: Scorecard) -> DataSet:
    sources = {
        level: sum(films)
        for table in card.confounding.tables
        if table.group == "source"
        for level, films in zip(table.levels, table.films, strict=True)
    }
    return DataSet(name=card.name, films=card.films, patients=card.patients, labels=card.class_films, sources=sources)


def _each(cards: Mapping[str, Scorecard], words: Mapping[str, str]) -> str | None:
    """One sentence an evaluation; None without any."""
    return " ".join(f"{card.name}: {words[name]}" for name, card in cards.items()) or None


def _local(run: Run, *kinds: str) -> str:
    """A site's films that a run was recalibrated on, in words; empty for a run that was not."""
    made = run.result.get("recalibrated")
    if made is None or (kinds and made["kind"] not in kinds):
        return ""
    return f"{made['count']:,} films of {made['patients']:,} patients of a site, which no member has seen"


def _described(cards: Mapping[str, Scorecard]) -> dict[str, str | None]:
    """What is the same for all three areas."""
    if not cards:
        return {}
    return {
        "test_type": _each(cards, {name: f"{TEST_TYPES[card.role]}." for name, card in cards.items()}),
        "testing_data": _each(
            cards, {name: f"{card.films:,} films of {card.patients:,} patients." for name, card in cards.items()}
        ),
        "validation": "Calibration and operating points were fixed before, on films that no member was fitted on; "
        "intervals resample patients, since films of one are alike.",
    }


def _usefulness(cards: Mapping[str, Scorecard]) -> KeyMetric:
    results: list[Measured] = []
    for card in cards.values():
        named = {"AUROC": card.auroc, "sensitivity": card.sensitivity, "specificity": card.specificity}
        results += [
            _measured(what, finding, card.name, value)
            for what, values in named.items()
            for finding, value in values.items()
        ]
        results.append(_measured("accuracy", "all", card.name, card.accuracy))
    return KeyMetric(
        goal="To tell films with each finding from all others, and to find the right one." if cards else None,
        results=tuple(results),
        interpretation=_each(cards, {name: card.verdict.headline for name, card in cards.items()}),
        **_described(cards),
    )


def _fairness(cards: Mapping[str, Scorecard]) -> KeyMetric:
    shown = {name: [one for one in card.subgroups if one.group in FAIRNESS_GROUPS] for name, card in cards.items()}
    if not any(shown.values()):
        return KeyMetric()
    results = [
        _measured("AUROC", finding, f"{cards[name].name}, {WORDS.get(one.group, one.group)} {one.level}", value)
        for name, groups in shown.items()
        for one in groups
        for finding, value in one.auroc.items()
    ]
    none = "no level of source, view, sex, age or device was found whose AUROC differs beyond chance."
    gaps = {name: " ".join(gap.sentence for gap in card.gaps) or none for name, card in cards.items()}
    return KeyMetric(
        goal="That it ranks films of one group of people as well as those of the others.",
        results=tuple(results),
        interpretation=f"{_each(cards, gaps)} Small groups can hide a difference.",
        **_described(cards),
    )


def _safety(cards: Mapping[str, Scorecard], abstention: str) -> KeyMetric:
    return KeyMetric(
        goal="That a stated probability is met by as many films, and that doubtful films go to a person."
        if cards
        else None,
        results=tuple(
            _measured("expected calibration error", "all", card.name, card.calibration_after.ece)
            for card in cards.values()
        ),
        interpretation=f"{ECE_MEANS} {_each(cards, {n: _ece(card) for n, card in cards.items()})} {abstention}"
        if cards
        else None,
        **_described(cards),
    )


ECE_MEANS = (
    "Expected calibration error: how far, averaged over films, the stated probability of the answer lies from how "
    "often such answers are right; 0 would be perfect."
)


def _ece(card: Scorecard) -> str:
    """What the calibration error would be by chance alone."""
    made = card.calibration_after
    if not made.ece.estimable or math.isnan(made.ece_if_perfect):
        return "it can't be estimated."
    found = "more than that" if made.ece.value > made.ece_if_perfect_high else "not more than that"
    return (
        f"on {made.ece.n:,} films even perfect probabilities would show {made.ece_if_perfect:.3f} (95 % of the time at "
        f"most {made.ece_if_perfect_high:.3f}); {found} was found."
    )


def _measured(what: str, finding: str, on: str, value: Estimate) -> Measured:
    return Measured(
        what=what,
        finding=finding,
        on=on,
        value=value.value if value.estimable else None,
        low=value.low if value.bounded else None,
        high=value.high if value.bounded else None,
        n=value.n,
        reason=value.reason,
    )
