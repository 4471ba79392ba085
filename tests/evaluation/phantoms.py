"""Phantom cohorts for audits: small tiles with what their headers say, and a light model as the network."""

from dataclasses import replace
from functools import partial

import numpy as np

from hilum.arrays import Array, Indices, Scores, Tiles
from hilum.datasets.columns import age_bands
from hilum.datasets.phantom.cohort import plan_cohort
from hilum.datasets.phantom.config import PhantomConfig
from hilum.datasets.phantom.rendering import render
from hilum.evaluation.auditing import AuditedFilms, audit_films, audit_network, pixel_features
from hilum.evaluation.audits import Audit, concluded
from hilum.evaluation.confounding import confounding_of_labels, find_confounding, within_source
from hilum.evaluation.intervals import Resampling
from hilum.evaluation.light_models import PERMUTATIONS, smoother
from hilum.evaluation.selective import LEAST_PROBABLE, AbstentionPolicy, AbstentionRules, measure_policy
from hilum.evaluation.source_audits import inside_audits
from hilum.evaluation.subgroups import gaps
from hilum.imaging.audit_views import lung_region
from hilum.imaging.preprocessing import Preprocessing, preprocess
from hilum.labels import CHEST
from hilum.predictions import Predictions


def cohort(patients: int, seed: int, *, shortcut: float = 0.0, side: int = 64) -> AuditedFilms:
    """One film a patient, two hospitals, everything in the header drawn without a look at the finding."""
    config = PhantomConfig(patients=patients, size=128, second_film_share=0, seed=seed, shortcut=shortcut)
    plans = plan_cohort(config)
    tiles = [
        preprocess((render(plan).pixels.clip(0, 1) * 65535).astype(np.uint16), Preprocessing(size=side))
        for plan in plans
    ]
    ages = np.array([plan.age_years for plan in plans], dtype=np.float64)
    return AuditedFilms(
        tiles=np.stack(tiles),
        findings=CHEST,
        classes=np.array([CHEST.index(plan.label) for plan in plans]),
        film_ids=tuple(f"film of {plan.patient_id}" for plan in plans),
        patient_ids=tuple(plan.patient_id for plan in plans),
        groups={
            "source": [plan.hospital for plan in plans],
            "view_position": [plan.view for plan in plans],
            "sex": [plan.sex for plan in plans],
            "age_band": age_bands(ages).tolist(),
            "device": [plan.device.model for plan in plans],
        },
        metadata={"age_years": ages, "width": np.array([plan.columns for plan in plans], dtype=np.float64)},
    )


def fitted(films: AuditedFilms) -> partial[Scores]:
    """A light model as the network: films → probabilities."""
    return partial(_answer, pixel_features(films.tiles), np.eye(3)[films.classes])


def _answer(known: Array, targets: Array, tiles: Tiles) -> Scores:
    values = np.concatenate([known, pixel_features(tiles)])
    weights = smoother(values, np.arange(len(known)), np.arange(len(known), len(values)))
    scores = np.exp(6 * weights @ (targets - targets.mean(axis=0)))
    return scores / scores.sum(axis=1, keepdims=True)


def halved(films: AuditedFilms) -> AuditedFilms:
    """The same films at half the side."""
    n, side = len(films.tiles), films.tiles.shape[1] // 2
    tiles = films.tiles.reshape(n, side, 2, side, 2).mean(axis=(2, 4)).astype(np.uint8)
    return replace(films, tiles=tiles)


def audited(
    films: AuditedFilms,
    lungs: Array | None = None,
    *,
    seed: int = 0,
    permutations: int = PERMUTATIONS,
    network: partial[Scores] | None = None,
) -> tuple[Audit, ...]:
    """All audits of a cohort: films by cross-validation, and a network about all of them.

    Without a network one is fitted on every other film and asked about the rest.
    """
    settings = Resampling(resamples=60, seed=seed)
    rows = audit_films(films, pixel_features, lungs=lungs, settings=settings, permutations=permutations)
    network, asked = (network, films) if network else _network(films)
    rows += audit_network(asked, network, lungs=lungs, settings=settings)
    answered = answers(network, asked)
    rows += inside_audits(answered, within_source(answered, settings), settings)
    return concluded(rows)


def _network(films: AuditedFilms) -> tuple[partial[Scores], AuditedFilms]:
    """A light model fitted on every other film, and the rest."""
    parity: Indices = np.arange(len(films.tiles)) % 2
    return fitted(films.select(np.flatnonzero(parity == 0))), films.select(np.flatnonzero(parity == 1))


def answers(network: partial[Scores], films: AuditedFilms) -> Predictions:
    """What the network says of the films."""
    probs = network(films.tiles)
    return Predictions(
        findings=films.findings,
        film_ids=films.film_ids,
        patient_ids=films.patient_ids,
        logits=np.log(probs),
        probs=probs,
        targets=np.eye(3)[films.classes],
        groups={name: tuple(levels) for name, levels in films.groups.items()},
    )


def alarms(
    films: AuditedFilms, lungs: Array | None = None, *, seed: int = 0, network: partial[Scores] | None = None
) -> list[str]:
    """Whatever a report of the cohort would show as other than clear because of a test, by name.

    Audits; label tables of all films and of the tested ones; falls inside a source; gaps between groups; groups that
    are left to a person more often, by a policy that answers four films of five.
    """
    if lungs is None and network:
        lungs = lung_region(films.tiles)  # once for both kinds of audits
    rows = audited(films, lungs, seed=seed, network=network)
    found = [f"audit: {row.name}" for row in rows if row.verdict == "alarm"]
    network, asked = (network, films) if network else _network(films)
    answered = answers(network, asked)
    of_all = confounding_of_labels(films.findings, np.eye(3)[films.classes], films.groups, films.patient_ids)
    of_tested = find_confounding(answered, settings=Resampling(resamples=60, seed=seed))
    found += [f"flag: {flag.code}" for flag in (*of_all.flags, *of_tested.flags) if flag.severity in ("red", "amber")]
    found += [f"gap: {gap.group}" for gap in gaps(answered)]
    doubt = 1 - answered.probs.max(axis=1)
    policy = AbstentionPolicy(
        doubt=LEAST_PROBABLE,
        limit=float(np.quantile(doubt, 0.8)),
        rules=AbstentionRules(),
        aurc={},
        coverage=0.8,
        risk=0.0,
    )
    figures = measure_policy(
        policy, answered, groups=list(answered.groups), settings=Resampling(resamples=60, seed=seed)
    )
    return found + [f"left: {text}" for text in figures.warnings]
