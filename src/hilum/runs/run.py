"""A finished run, opened: its members, its calibration, and the one-pass network made of them."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from hilum.config import from_mapping
from hilum.datasets.manifest import Manifest
from hilum.errors import RunError
from hilum.evaluation.calibrators import Sigmoids
from hilum.evaluation.shipped_calibration import ShippedCalibration
from hilum.files import replacing
from hilum.labels import Findings
from hilum.models import calibrated
from hilum.models.classifier import Classifier, ClassifierConfig, build_classifier
from hilum.models.explained import Explained
from hilum.predictions import Predictions
from hilum.progress import Progress
from hilum.provenance import combined_hash, sha256_file
from hilum.runs.layout import RunFolder
from hilum.runs.recipes import Recipe, shared_cut

if TYPE_CHECKING:
    from hilum.evaluation.scorecard import Scorecard
    from hilum.runs.train import TrainConfig


def save_member(classifier: Classifier, path: Path) -> None:
    """Write a member's weights as safetensors, atomically; its normalisation stands in the file's metadata."""
    state = {name: value.detach().cpu().contiguous() for name, value in classifier.state_dict().items()}
    # One key: safetensors writes several in an order of chance, and equal weights must give equal files.
    metadata = {"normalisation": json.dumps({"mean": classifier.config.mean, "std": classifier.config.std})}
    with replacing(path) as temporary:
        save_file(state, temporary, metadata=metadata)


@dataclass(frozen=True, slots=True)
class Run:
    """A finished run.

    Attributes:
        folder: where everything lies.
        config: what it was trained with.
        result: what ``result.json`` holds.
    """

    folder: RunFolder
    config: "TrainConfig"
    result: dict[str, Any]

    @classmethod
    def open(cls, path: str | Path) -> "Run":
        """Open a finished run's folder.

        Raises:
            RunError: there is no finished run, or its files are damaged.
        """
        from hilum.runs.train import TrainConfig

        folder = RunFolder(Path(path))
        result = folder.read(folder.result)
        told = folder.read(folder.config)
        return cls(folder, from_mapping(TrainConfig, told["config"], where=str(folder.config)), result)

    @property
    def path(self) -> Path:
        """The run's folder."""
        return self.folder.root

    @property
    def recipe(self) -> Recipe:
        """How it was trained."""
        return self.config.recipe

    @property
    def findings(self) -> Findings:
        """What it tells apart."""
        return Findings(self.config.findings)

    @property
    def films(self) -> Manifest:
        """The split that it was trained on."""
        return Manifest.read(self.folder.manifest)

    @property
    def calibration(self) -> ShippedCalibration:
        """How probabilities are made of logits; fitted on out-of-fold predictions."""
        return ShippedCalibration.of(self.result, len(self.config.findings))

    @property
    def thresholds(self) -> dict[str, float]:
        """Operating points that could be chosen, by finding."""
        points = self.result["operating_points"]
        return {name: point["threshold"] for name, point in points.items() if point["threshold"] is not None}

    @property
    def fingerprint(self) -> str:
        """SHA-256 over the members' weights: the model version that an opening of the test share is logged for."""
        return combined_hash(sha256_file(self.folder.weights(number)) for number in range(self.config.members))

    def out_of_fold(self) -> Predictions:
        """What each film got from the member that did not fit it."""
        return Predictions.read(self.folder.out_of_fold)

    def classifier(self, number: int = 0) -> Classifier:
        """One member, an ordinary ``nn.Module`` in evaluation mode.

        Raises:
            RunError: the member's weights are missing or damaged.
        """
        path = self.folder.weights(number)
        try:
            state = load_file(path)
            mean, std = _normalisation(path)
        except (OSError, SafetensorError, ValueError, KeyError) as error:
            raise RunError(f"{path} can't be read ({error}). Train again into this folder.") from None
        config = ClassifierConfig(
            backbone=self.config.backbone,
            findings=self.config.findings,
            size=self.recipe.preprocessing.size,
            hidden=self.recipe.hidden,
            dropout=self.recipe.dropout,
            mean=mean,
            std=std,
        )
        classifier, _ = build_classifier(config, "none", self.config.seed)
        classifier.load_state_dict(state)
        return classifier.eval()

    def explained(self) -> Explained:
        """The network that answers everything in one pass: what is evaluated, exported and served."""
        members = [self.classifier(number) for number in range(self.config.members)]
        cut = shared_cut(self.recipe, members[0].encoder) if len(members) > 1 else 0
        return Explained(members, calibrate=self._layer(), cut=cut or None, seed=self.config.seed)

    def _layer(self) -> nn.Module:
        """The calibration as a layer of the graph."""
        made = self.calibration.calibrator
        if isinstance(made, Sigmoids):
            return calibrated.Sigmoids(made.slopes, made.intercepts)
        return calibrated.Scaled(made.weights, made.biases)

    def evaluate(
        self, on: str | Path | None = None, *, external: bool = False, progress: Progress | None = None
    ) -> "Scorecard":
        """Evaluate on the locked test share, or on another manifest; see :func:`hilum.runs.evaluate.evaluate`."""
        from hilum.runs.evaluate import evaluate

        return evaluate(self, on=Path(on) if on else None, external=external, progress=progress).scorecard

    def package(self, out: str | Path, *, progress: Progress | None = None) -> Path:
        """Make a bundle; see :func:`hilum.runs.package.package`."""
        from hilum.runs.package import package

        return package(self, Path(out), progress=progress)


def _normalisation(path: Path) -> tuple[tuple[float, ...], tuple[float, ...]]:
    with safe_open(path, framework="pt") as handle:
        values = json.loads((handle.metadata() or {}).get("normalisation", "{}"))
    return tuple(values["mean"]), tuple(values["std"])
