"""Package: a run's network as one bundle, with references, operating points, model card and provenance."""

import json
from pathlib import Path

import numpy as np

from hilum.arrays import Array
from hilum.bundle.card import CARD_JSON_MEMBER, Stated
from hilum.bundle.card_text import render_card
from hilum.bundle.distribution import DriftReference, heatmap_top
from hilum.bundle.reference import ReferenceAnswers
from hilum.bundle.schema import BundleInfo
from hilum.bundle.writing import write_bundle
from hilum.config import fingerprint
from hilum.datasets.phantom.cohort import plan_cohort
from hilum.datasets.phantom.config import PhantomConfig
from hilum.datasets.phantom.rendering import render
from hilum.errors import BundleError
from hilum.evaluation.scorecard import Scorecard
from hilum.imaging.intended_use import GatePolicy
from hilum.imaging.preprocessing import Preprocessing, preprocess
from hilum.inference.runtimes import OnnxRuntime
from hilum.models.explained import Explained
from hilum.models.export import export_onnx
from hilum.progress import Progress, Silent
from hilum.provenance import now_utc, sha256_bytes
from hilum.runs.answers import Answers, answer_films
from hilum.runs.doubt import Validation, held_films, policy_of, shipped_policy, validation_of
from hilum.runs.model_card import model_card
from hilum.runs.run import Run
from hilum.runs.tiles import open_tiles

PARITY = 1e-4
"""Most that a probability may differ between the trained network and the exported graph."""

REFERENCES = 6
"""Synthetic phantom films that travel inside a bundle with their answers; no patient's film leaves the site."""

INTENDED_USE = (
    "Assistive reading of frontal chest radiographs (CR, DX) of adults, for research and validation: how probable are "
    "{findings}. A person decides. Not a medical device, and not for diagnosis."
)


def package(
    run: Run,
    out: Path,
    *,
    name: str = "chest",
    version: str | None = None,
    gate: GatePolicy | None = None,
    stated: Stated | None = None,
    cache: Path | None = None,
    progress: Progress | None = None,
) -> Path:
    """Export a run and write a bundle; the exported graph is first held against the trained network.

    Args:
        run: a finished run.
        out: ``….hilum`` for a zip, any other name for a folder.
        name: of the model.
        version: of the model; None takes the first 12 digits of the weights' fingerprint.
        gate: which films are analysed; None for the default policy.
        stated: what people state of it, for the model card.
        cache: folder shared between runs; None for ``.cache`` beside the run.
        progress: where progress goes.

    Returns:
        ``out``.

    Raises:
        BundleError: the graph answers otherwise than the network, or ``out`` holds something else than a bundle.
    """
    progress = progress or Silent()
    cache = cache or run.path.parent / ".cache"
    network = run.explained()
    fitted = fit_answers(run, network, cache, progress)
    validation = validation_of(run, cache=cache, progress=progress)
    with progress.bar("Exporting", 3) as bar:
        model = export_onnx(network)
        bar.advance(note="checking the graph against the network")
        tiles = reference_tiles(run.recipe.preprocessing)
        runtime = OnnxRuntime(model, size=run.recipe.preprocessing.size)
        answer = runtime.run(tiles[:, None])
        check_parity(answer["probabilities"], answer_films(network, tiles))
        bar.advance(note="writing")
        info = _info(
            run, fitted, validation, name=name, version=version or run.fingerprint[:12], gate=gate, model=model
        )
        cards = _scorecards(run)
        card = model_card(run, info, cards, abstention=_when_no_label(info), stated=stated)
        write_bundle(
            out,
            info=info,
            model_onnx=model,
            reference=ReferenceAnswers(tiles=tiles[:, None], outputs=answer.as_mapping()),
            card_markdown=render_card(card),
            files={
                CARD_JSON_MEMBER: card.to_bytes(),
                **{
                    f"scorecards/{key}.json": json.dumps(one.to_json(), allow_nan=False).encode()
                    for key, one in cards.items()
                },
            },
        )
        bar.advance()
    return out


def fit_answers(run: Run, network: Explained, cache: Path, progress: Progress) -> Answers:
    """What the network says of the fit part: the reference for drift and for the heat maps' scale."""
    films = run.films.select(run.films.rows(part="fit"))
    with open_tiles(films, run.recipe.preprocessing, cache, progress=progress) as (tiles, _):
        return answer_films(network, tiles, progress=progress)


def reference_tiles(preprocessing: Preprocessing) -> Array:
    """Synthetic phantom films, preprocessed: uint8 [n, size, size]."""
    plans = plan_cohort(PhantomConfig(patients=REFERENCES, size=256, seed=2026))
    films = [render(plan).pixels for plan in plans[:REFERENCES]]
    pixels = [np.round(np.clip(film, 0, 1) * 65535).astype(np.uint16) for film in films]
    return np.stack([preprocess(film, preprocessing) for film in pixels])


def check_parity(probabilities: Array, trained: Answers) -> None:
    """Hold the exported graph against the trained network.

    Raises:
        BundleError: a probability differs by more than :data:`PARITY`.
    """
    worst = float(np.abs(probabilities - trained["probabilities"]).max())
    if not worst <= PARITY:
        raise BundleError(
            f"The exported graph answers otherwise than the trained network (probabilities differ by {worst:.2g}, "
            f"allowed {PARITY:g}). Nothing was written; report the backbone and the package versions."
        )


def _info(
    run: Run,
    fitted: Answers,
    validation: Validation,
    *,
    name: str,
    version: str,
    gate: GatePolicy | None,
    model: bytes,
) -> BundleInfo:
    findings = run.findings.names
    held = held_films(run)
    return BundleInfo(
        name=name,
        version=version,
        created=now_utc(),
        findings=findings,
        preprocessing=run.recipe.preprocessing,
        intended_use=INTENDED_USE.format(findings=", ".join(findings)),
        normal="normal" if "normal" in findings else None,
        temperature=run.calibration.temperature or 1.0,
        calibration=run.calibration.sentence,
        dropout=run.recipe.dropout,
        members=run.config.members,
        thresholds=run.thresholds,
        operating_points=run.result["operating_points"],
        abstention=shipped_policy(policy_of(validation)),
        ood=validation.usual,
        drift=DriftReference.of(
            features=fitted["features"][held].astype(np.float64),
            probs=validation.films.probs,
            findings=findings,
            uncertainty={"mutual_information": fitted["mutual_information"][held].astype(np.float64)},
        ),
        heatmap_top=heatmap_top(fitted["cam"]),
        gate=gate or GatePolicy(),
        provenance={
            "backbone": run.config.backbone,
            "weights": run.result["weights"],
            "trained": run.result["created"],
            "environment": run.result["environment"],
            "calibration_optimistic": run.result["calibration_optimistic"],
            "reference": "synthetic phantom films",
            **({"recalibrated": run.result["recalibrated"]} if "recalibrated" in run.result else {}),
        },
        fingerprints={
            "films": run.result["films"],
            "config": run.result["config_fingerprint"],
            "preprocessing": fingerprint(run.recipe.preprocessing),
            "weights": run.fingerprint,
            "graph": sha256_bytes(model),
        },
    )


def _scorecards(run: Run) -> dict[str, Scorecard]:
    """What was evaluated until now, by name of the evaluation."""
    found = sorted(run.folder.root.glob("evaluation/*/scorecard.json"))
    return {path.parent.name: Scorecard.from_json(path.read_text()) for path in found}


def _when_no_label(info: BundleInfo) -> str:
    rules = ["the gate refuses the film", *info.abstention.rules()]
    if info.ood is not None:
        rules.append(f"the features lie farther from the fitted films than {info.ood.threshold:.2f}")
    return f"Without a label when {', or '.join(rules)}."
