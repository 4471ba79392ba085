"""Answers to TRIPOD+AI from a run's artefacts; what no artefact says stays empty."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from hilum.datasets.manifest import Manifest
from hilum.evaluation.scorecard import Scorecard
from hilum.evaluation.tripod import Item, checklist
from hilum.runs.run import Run
from hilum.runs.summary import operating_words

Answer = tuple[str, str]


def run_checklist(run: Run, internal: Scorecard, external: Scorecard | None = None) -> tuple[Item, ...]:
    """The checklist of a run's report.

    Args:
        run: a finished run.
        internal: the internal test.
        external: the external test, when there is one.
    """
    cards = [internal, *([external] if external else [])]
    return checklist({**_data(run, cards), **_model(run), **_results(run, cards, external)})


def _data(run: Run, cards: list[Scorecard]) -> dict[str, Answer]:
    films = run.films
    tests = "; ".join(f"{card.name}: {card.films:,} films of {card.patients:,} patients" for card in cards)
    unlabelled = sum(card.unlabelled for card in cards)
    parts = {part: len(films.rows(part=part)) for part in ("fit", "test")}
    return {
        "4": (
            "Development and an internal test" + ("; evaluation on external films." if len(cards) > 1 else "."),
            "figures",
        ),
        "5a": (f"Development: {_sources(films)}. {tests}.", "confounding"),
        "7": (f"One function for all films, in training and in use: {run.recipe.preprocessing}.", "config.json"),
        "9b": ("The pixels of one frontal film after preprocessing; no clinical data.", "config.json"),
        "11": (
            f"Films of unknown label are left out of every figure ({unlabelled:,}); a film without a score makes the "
            "verdict red.",
            "figures",
        ),
        "12a": (
            f"By patient: {parts['fit']:,} films to fit in {run.config.folds} folds, {parts['test']:,} in the locked "
            "test share.",
            "split.parquet",
        ),
        "16": (_differences(cards), "confounding"),
        "20a": (_flow(cards), "figures"),
        "20b": ("Tables of the label by source, view, age, sex and device.", "confounding"),
        "20c": (_differences(cards), "confounding"),
    }


def _sources(films: Manifest) -> str:
    names, counts = np.unique([source or "not recorded" for source in films.groups()["source"]], return_counts=True)
    return ", ".join(f"{count:,} films of {name}" for name, count in zip(names, counts, strict=True))


def _differences(cards: list[Scorecard]) -> str:
    if len(cards) < 2:
        return ""
    inside, outside = cards
    shares = "; ".join(
        f"{name} {_share(inside, name)} inside and {_share(outside, name)} outside" for name in inside.findings
    )
    return f"Shares of films: {shares}."


def _share(card: Scorecard, finding: str) -> str:
    return f"{card.class_films[finding] / card.films:.0%}" if card.films else "none"


def _flow(cards: list[Scorecard]) -> str:
    return " ".join(
        f"{card.name[0].upper()}{card.name[1:]}: "
        + ", ".join(f"{card.class_patients[name]:,} patients with {name}" for name in card.findings)
        + f", {card.unlabelled:,} films of unknown label."
        for card in cards
    )


def _model(run: Run) -> dict[str, Answer]:
    weights: Mapping[str, Any] = run.result["weights"] or {}
    stages = ", ".join(stage.name for stage in run.recipe.stages)
    environment = run.result["environment"]
    commit = environment.get("commit")
    return {
        "12b": (
            f"Tiles of {run.recipe.preprocessing.size} pixels; normalisation: {run.recipe.normalisation}.",
            "config.json",
        ),
        "12c": (
            f"{run.config.backbone} from weights {weights.get('name', 'none')}, trained in stages ({stages}), "
            f"{run.config.members} members over {run.config.folds} folds. {run.calibration.sentence} "
            "Fitted on out-of-fold predictions.",
            "training",
        ),
        "12e": (
            "AUROC, average precision, sensitivity, specificity, predictive values, MCC, calibration, decision curves, "
            "all with intervals by patient.",
            "figures",
        ),
        "12g": (
            "Mean of the members' calibrated probabilities, in one pass of the graph that is served.",
            "predictions.parquet",
        ),
        "13": (f"Imbalance: {run.recipe.imbalance.text()}; calibration is measured after it.", "calibration"),
        "15": (
            f"Probabilities of {', '.join(run.config.findings)}; thresholds were chosen on out-of-fold predictions "
            f"({operating_words(run)}).",
            "operating-points",
        ),
        "18f": (
            f"hilum {environment['packages'].get('hilum', '')}" + (f", commit {commit}." if commit else "."),
            "provenance",
        ),
        "22": (
            f"The members' weights, fingerprint {run.fingerprint[:12]}; hilum bundle create makes the bundle.",
            "members",
        ),
    }


def _results(run: Run, cards: list[Scorecard], external: Scorecard | None) -> dict[str, Answer]:
    groups = sorted({one.group.replace("_", " ") for card in cards for one in card.subgroups})
    gaps = [one.sentence for card in cards for one in card.gaps]
    found = " ".join(gaps) if gaps else "no gap beyond chance after Holm's correction."
    by_source = any(one.group == "source" for card in cards for one in card.subgroups)
    local = external.recalibrated if external else None
    answers = {
        "14": (
            f"AUROC, sensitivity, specificity and abstention by {', '.join(groups)}: {found}" if groups else "",
            "subgroups",
        ),
        "21": (
            "; ".join(f"{card.name}: {card.films:,} films of {card.patients:,} patients" for card in cards) + ".",
            "figures",
        ),
        "23a": (
            "; ".join(f"{card.name}: mean AUROC {card.macro_auroc.text()}" for card in cards)
            + "; by group in the report.",
            "figures",
        ),
        "23b": ("AUROC by source, with intervals." if by_source else "", "subgroups"),
        "26": (
            " ".join(dict.fromkeys(text for card in cards for text in card.verdict.may_not_claim)),
            "the verdict",
        ),
    }
    if local is not None:
        answers["12f"] = (
            "The model was not updated; a correction on the external films is shown beside it.",
            "calibration",
        )
    if local is not None and local.figures is not None:
        answers["24"] = (
            f"After a local correction ECE is {local.figures.ece.text(3)}; it is shown, not applied.",
            "calibration",
        )
    return answers
