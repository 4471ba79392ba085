"""An assessment: what the model says of one film, with its doubts, its reasons and where it came from."""

from dataclasses import dataclass, field
from typing import Any, Literal

from hilum.arrays import Array, Pixels, Tile
from hilum.config import canonical_json, to_mapping
from hilum.errors import UsageError, nearest
from hilum.imaging.intended_use import Gate
from hilum.imaging.preprocessing import Preprocessing
from hilum.inference.heatmaps import Heatmap

NOTICE = "assistive, not for diagnosis"
SCHEMA_VERSION = 1
DECIMALS = 6
"""Decimals of every float in an assessment's JSON. Runtimes and processors differ from the seventh on, so that more
would make equal answers look different."""

Outcome = Literal["answered", "abstained", "not-analysed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Provenance:
    """What made an assessment."""

    bundle_name: str
    """Name of the model."""
    bundle_version: str
    """Version of the model."""
    bundle_sha256: str
    """Digest of the bundle."""
    preprocessing_version: int
    """Version of the preprocessing function."""
    preprocessing_fingerprint: str
    """Hash of its parameters."""
    runtime: str
    """Runtime and its version."""
    precision: str
    """What it computed in."""
    hilum: str
    """Version of this package."""
    answered_at: str
    """When, ISO 8601 in UTC."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Assessment:
    """What the model says of one film. Holds no identifiers.

    The label is the finding with the highest calibrated probability. ``positive`` lists the findings whose probability
    reaches their operating point; thresholds aim at sensitivity, so a finding can be positive without being the label.
    """

    film_sha256: str
    """Digest of the film's file."""
    outcome: Outcome
    """``answered``; ``abstained``: the model is in doubt; ``not-analysed``: outside the intended use."""
    findings: tuple[str, ...]
    """The findings, in the model's order."""
    normal: str | None
    """The finding that means health."""
    label: str | None
    """The likeliest finding; None unless answered."""
    positive: tuple[str, ...]
    """Findings that reach their operating point, likeliest first; empty when not analysed."""
    reasons: tuple[str, ...]
    """Why there is no label, in plain sentences; empty when answered."""
    gate: Gate
    """Every check of the intended use."""
    flags: tuple[str, ...]
    """Oddities that the reader of the file worked around."""
    provenance: Provenance
    """What made it."""
    probs: dict[str, float] = field(default_factory=dict)
    """Calibrated probability by finding; empty when not analysed, as are the following."""
    mc_mean: dict[str, float] = field(default_factory=dict)
    """Mean probability under dropout."""
    mc_std: dict[str, float] = field(default_factory=dict)
    """Its standard deviation."""
    member_std: dict[str, float] = field(default_factory=dict)
    """Standard deviation of the members' probabilities."""
    mutual_information: float | None = None
    """In nats."""
    ood_distance: float | None = None
    """Distance from usual films; about 1 is usual. None when the bundle has no reference."""
    features: Array | None = None
    """float32 [d] pooled features, for drift; not in the JSON."""
    cams: Array | None = None
    """float32 [k, h, w] activations, ≥ 0, in units of logit; not in the JSON."""
    cam_std: Array | None = None
    """float32 [k, h, w], their spread under dropout; not in the JSON."""
    heatmap_top: float = 1.0
    """Activation that heat maps show as full heat."""
    tile: Tile
    """uint8 [size, size], what the model saw; not in the JSON."""
    film_shape: tuple[int, int]
    """Height and width of the film."""
    preprocessing: Preprocessing
    """How the film became the tile."""
    film: Pixels | None = None
    """Presentation values, when the film was given whole; not in the JSON."""

    @property
    def analysed(self) -> bool:
        """False when the film is outside the intended use."""
        return self.outcome != "not-analysed"

    @property
    def abstained(self) -> bool:
        """True when the film was analysed and goes to a person without a label."""
        return self.outcome == "abstained"

    @property
    def risk(self) -> float | None:
        """Probability of anything but normal, 0 … 1; None when not analysed."""
        if not self.probs:
            return None
        return max(self.probs.values()) if self.normal is None else 1.0 - self.probs[self.normal]

    @property
    def top_abnormal(self) -> str | None:
        """The likeliest finding beside normal; None when not analysed."""
        names = [name for name in self.probs if name != self.normal]
        return max(names, key=lambda name: self.probs[name], default=None)

    def heatmap(self, finding: str) -> Heatmap:
        """Where the evidence for a finding lies.

        Raises:
            UsageError: the film was not analysed, or there is no such finding.
        """
        if finding not in self.findings:
            raise UsageError(f"{finding!r} is not a finding of this model. {nearest(finding, self.findings)}")
        if self.cams is None or self.cam_std is None:
            raise UsageError(
                f"The film was not analysed, so it has no heat map for {finding}: {' '.join(self.reasons)}"
            )
        column = self.findings.index(finding)
        return Heatmap(
            finding=finding,
            values=self.cams[column],
            spread=self.cam_std[column],
            top=self.heatmap_top,
            tile=self.tile,
            film_shape=self.film_shape,
            preprocessing=self.preprocessing,
            film=self.film,
        )

    def to_json(self, *, maps: bool = False) -> dict[str, Any]:
        """JSON values: floats rounded to :data:`DECIMALS`, no arrays, no identifiers.

        Args:
            maps: whether the heat map of every finding stands in it, as numbers: rows of ``values`` ≥ 0 and of their
                ``spread`` under dropout, in units of logit, over the tile that ``preprocessing`` cut from a film of
                ``film_shape``; ``heatmap_top`` is full heat.
        """
        heat = {"heatmaps": self._maps()} if maps else {}
        return heat | {
            "schema_version": SCHEMA_VERSION,
            "notice": NOTICE,
            "film_sha256": self.film_sha256,
            "outcome": self.outcome,
            "label": self.label,
            "positive": list(self.positive),
            "reasons": list(self.reasons),
            "findings": list(self.findings),
            "probs": _rounded(self.probs),
            "risk": _rounded(self.risk),
            "uncertainty": {
                "mc_mean": _rounded(self.mc_mean),
                "mc_std": _rounded(self.mc_std),
                "member_std": _rounded(self.member_std),
                "mutual_information": _rounded(self.mutual_information),
                "ood_distance": _rounded(self.ood_distance),
            },
            "gate": _rounded(to_mapping(self.gate)),
            "flags": list(self.flags),
            "heatmap_top": self.heatmap_top,
            "film_shape": list(self.film_shape),
            "preprocessing": to_mapping(self.preprocessing),
            "provenance": to_mapping(self.provenance),
        }

    def to_canonical_json(self, *, maps: bool = False) -> str:
        """The same as text with sorted keys and no spaces: what is signed, chained and compared."""
        return canonical_json(self.to_json(maps=maps))

    def _maps(self) -> dict[str, Any]:
        if self.cams is None or self.cam_std is None:
            return {}
        return {
            finding: {"values": _rounded(values.tolist()), "spread": _rounded(spread.tolist())}
            for finding, values, spread in zip(self.findings, self.cams, self.cam_std, strict=True)
        }


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, DECIMALS) + 0.0  # −0.0 would read differently from 0.0
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_rounded(item) for item in value]
    return value
