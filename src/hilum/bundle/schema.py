"""What a bundle says of itself: ``bundle.json`` as one frozen value, checked when it is made."""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from hilum.bundle.distribution import DriftReference, OodReference
from hilum.config import from_mapping, to_mapping
from hilum.errors import BundleError, ConfigError, UsageError
from hilum.imaging.intended_use import GatePolicy
from hilum.imaging.preprocessing import Preprocessing
from hilum.labels import Findings

SCHEMA_VERSION = 1
"""Version of ``bundle.json`` and of the set of members; a reader refuses a newer one."""

INFO_MEMBER = "bundle.json"
MODEL_MEMBER = "model.onnx"
CARD_MEMBER = "model_card.md"

OUTPUTS: dict[str, tuple[str, ...]] = {
    "logits": ("n", "k"),
    "probabilities": ("n", "k"),
    "mc_mean": ("n", "k"),
    "mc_std": ("n", "k"),
    "mutual_information": ("n",),
    "cam": ("n", "k", "h", "w"),
    "cam_std": ("n", "k", "h", "w"),
    "features": ("n", "d"),
    "member_std": ("n", "k"),
}
"""Outputs of the model's graph, all float32: n films, k findings, h × w maps, d features.

``logits`` before calibration (mean over members), ``probabilities`` calibrated (rows sum to 1), ``mc_mean`` and
``mc_std`` over fixed dropout masks, ``mutual_information`` in nats, ``cam`` ≥ 0 in units of logit, ``member_std`` of
the members' probabilities (zeros for one member).
"""

OPTIONAL_OUTPUTS = frozenset({"member_std"})
"""Outputs that a graph of one member may leave out; they read as zeros."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True, slots=True, kw_only=True)
class AbstentionPolicy:
    """Beyond which uncertainty a film goes to a person without a label; None switches a rule off."""

    mutual_information: float | None = None
    """Most mutual information, in nats, that still gives a label."""
    least_probability: float | None = None
    """Least probability of the likeliest finding that still gives a label, 0 … 1."""
    member_std: float | None = None
    """Most standard deviation of the members' probabilities, for the likeliest finding, that still gives a label."""
    entropy: float | None = None
    """Most entropy of the probabilities, in nats, that still gives a label."""
    mc_std: float | None = None
    """Most standard deviation over dropout masks and members, for the likeliest finding, that still gives a label."""
    ood_distance: float | None = None
    """Most distance from the fitted films that still gives a label, where it is less than ``ood.threshold``."""
    set_size: int | None = None
    """Most findings in the prediction set that still give a label; a set of none counts as one of all."""
    set_limits: dict[str, float] = field(default_factory=dict)
    """Least probability at which each finding enters the prediction set, 0 … 1; with ``set_size``."""

    def rules(self) -> tuple[str, ...]:
        """What sends a film to a person, one part of a sentence a rule."""
        told = (
            (self.least_probability, "the likeliest finding stays below {:.3f}"),
            (self.entropy, "the entropy of the probabilities exceeds {:.3f}"),
            (self.mutual_information, "the mutual information exceeds {:.4f}"),
            (self.mc_std, "the likeliest finding's probability spreads by more than {:.4f} under dropout"),
            (self.member_std, "the members' probabilities of the likeliest finding spread by more than {:.3f}"),
            (self.ood_distance, "the features lie farther from the fitted films than {:.2f}"),
            (self.set_size, "the prediction set holds more than {} or none of the findings"),
        )
        return tuple(words.format(limit) for limit, words in told if limit is not None)


@dataclass(frozen=True, slots=True, kw_only=True)
class BundleInfo:
    """Everything that is needed to answer a film, beside the graph itself.

    Raises:
        ConfigError: fields that contradict each other or are out of range, all of them at once.
    """

    name: str
    """Name of the model, such as ``chest``: letters, digits, dots, dashes, underscores; at most 64."""
    version: str
    """Version of the model, in the same letters."""
    created: str
    """When it was made, ISO 8601 in UTC."""
    findings: tuple[str, ...]
    """The findings in the order of the graph's outputs."""
    preprocessing: Preprocessing
    """How a film becomes a tile."""
    intended_use: str
    """One paragraph: on which films, for whom, for what."""
    normal: str | None = "normal"
    """The finding that means health; None when there is none."""
    temperature: float = 1.0
    """Temperature that calibrates, 1 where another way does; it is part of the graph, and stands here to be read."""
    calibration: str = ""
    """How probabilities are made of logits, in a sentence; empty in bundles of before, which have a temperature."""
    dropout: float = 0.0
    """Dropout rate behind ``mc_mean`` and ``mc_std``."""
    members: int = 1
    """Members of the ensemble."""
    thresholds: dict[str, float] = field(default_factory=dict)
    """Operating points: a finding is positive when its probability is at least this, 0 … 1."""
    operating_points: dict[str, Any] = field(default_factory=dict)
    """How the thresholds were chosen and what they reach, by finding; for the card."""
    abstention: AbstentionPolicy = field(default_factory=AbstentionPolicy)
    """When the model doesn't label."""
    ood: OodReference | None = None
    """What the features of usual films look like; None switches the rule off."""
    drift: DriftReference | None = None
    """What features and scores looked like on reference films, for monitoring."""
    heatmap_top: float = 1.0
    """Activation, in units of logit, that heat maps show as full heat: one scale for all films of the bundle."""
    gate: GatePolicy = field(default_factory=GatePolicy)
    """Which films are analysed at all."""
    provenance: dict[str, Any] = field(default_factory=dict)
    """Run, data, weights, environment: where it came from."""
    fingerprints: dict[str, str] = field(default_factory=dict)
    """Hashes of data, split, config and weights, by name."""
    schema_version: int = SCHEMA_VERSION
    """Version of this table."""

    def __post_init__(self) -> None:
        if problems := [*_names(self), *_ranges(self), *_labels(self)]:
            raise ConfigError(problems)

    def to_bytes(self) -> bytes:
        """``bundle.json``: sorted, indented UTF-8."""
        text = json.dumps(to_mapping(self), indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False)
        return (text + "\n").encode()


def _names(info: BundleInfo) -> list[str]:
    problems = []
    for what in ("name", "version"):
        value = getattr(info, what)
        if not _NAME.fullmatch(value):
            problems.append(f"bundle.{what} is {value!r}; use up to 64 letters, digits, dots, dashes, underscores.")
    if not 1 <= info.schema_version <= SCHEMA_VERSION:
        problems.append(f"bundle.schema_version is {info.schema_version}, but this hilum knows 1 … {SCHEMA_VERSION}.")
    return problems


def calibration_of(info: BundleInfo) -> str:
    """How probabilities are made of logits, in a sentence."""
    return info.calibration or f"Logits are divided by the temperature {info.temperature:.3f} before the softmax."


def _ranges(info: BundleInfo) -> list[str]:
    limits = info.abstention
    least, size = limits.least_probability, limits.set_size
    spreads = {name: getattr(limits, name) for name in ("mutual_information", "member_std", "entropy", "mc_std")}
    checks = (
        ("temperature", info.temperature, info.temperature > 0, "above 0"),
        ("dropout", info.dropout, 0 <= info.dropout < 1, "0 or more and below 1"),
        ("members", info.members, info.members >= 1, "1 or more"),
        ("heatmap_top", info.heatmap_top, info.heatmap_top > 0, "above 0"),
        *((f"thresholds.{name}", value, 0 <= value <= 1, "within 0 … 1") for name, value in info.thresholds.items()),
        *((f"abstention.{name}", value, (value or 0) >= 0, "0 or more") for name, value in spreads.items()),
        ("abstention.ood_distance", limits.ood_distance, (limits.ood_distance or 0) >= 0, "0 or more"),
        ("abstention.least_probability", least, 0 <= (least or 0) <= 1, "within 0 … 1"),
        ("abstention.set_size", size, size is None or size >= 1, "1 or more"),
        *(
            (f"abstention.set_limits.{name}", value, 0 <= value <= 1, "within 0 … 1")
            for name, value in limits.set_limits.items()
        ),
    )
    return [
        f"bundle.{name} is {value}, but must be {wanted}."
        for name, value, good, wanted in checks
        if not good or (value is not None and not math.isfinite(value))
    ]


def _labels(info: BundleInfo) -> list[str]:
    problems = []
    try:
        Findings(info.findings)
    except UsageError as error:
        problems.append(f"bundle.findings: {error}")
    for what in ("thresholds", "operating_points"):
        for name in getattr(info, what):
            if name not in info.findings:
                problems.append(f"bundle.{what} names {name!r}, which is not among the findings {list(info.findings)}.")
    limits = info.abstention
    if limits.set_size is not None and set(limits.set_limits) != set(info.findings):
        problems.append(
            f"bundle.abstention.set_limits names {sorted(limits.set_limits)}, but set_size needs one for each of "
            f"{list(info.findings)}."
        )
    if limits.ood_distance is not None and info.ood is None:
        problems.append("bundle.abstention.ood_distance is set, but the bundle has no ood reference to measure it by.")
    if info.normal is not None and info.normal not in info.findings:
        problems.append(f"bundle.normal is {info.normal!r}, which is not among the findings {list(info.findings)}.")
    if info.drift is not None and set(info.drift.probs_quantiles) != set(info.findings):
        problems.append(
            f"bundle.drift describes {sorted(info.drift.probs_quantiles)}, but the findings are {list(info.findings)}."
        )
    return problems


def read_info(content: bytes, *, where: str = INFO_MEMBER) -> BundleInfo:
    """Read ``bundle.json``, strictly.

    Raises:
        BundleError: not JSON, a newer schema, unknown or missing keys, values out of range.
    """
    values = parse_json(content, where)
    check_schema(values.get("schema_version"), where)
    try:
        return from_mapping(BundleInfo, values, where=where)
    except (UsageError, TypeError, ValueError) as error:
        raise BundleError(f"{where} can't be used: {error} Make the bundle again.") from None


def check_schema(version: object, where: str, newest: int = SCHEMA_VERSION) -> None:
    """Refuse a schema that this hilum can't know.

    Raises:
        BundleError: the version is no number or newer than ``newest``.
    """
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise BundleError(
            f"{where} has schema_version {version!r}, but needs a whole number from 1. Make the bundle again."
        )
    if version > newest:
        raise BundleError(f"{where} has schema_version {version}, but this hilum reads up to {newest}. Update hilum.")


def parse_json(content: bytes, where: str) -> Mapping[str, Any]:
    """A JSON object without NaN, infinities or repeated keys.

    Raises:
        BundleError: it is none.
    """
    try:
        values = json.loads(content.decode("utf-8"), parse_constant=_no_constant, object_pairs_hook=_no_repeats)
    except (ValueError, RecursionError) as error:
        raise BundleError(f"{where} is not plain JSON ({error}). Make the bundle again.") from None
    if not isinstance(values, dict):
        raise BundleError(f"{where} holds a {type(values).__name__}, not a JSON object. Make the bundle again.")
    return values


def _no_constant(text: str) -> None:
    raise ValueError(f"{text} is no JSON number")


def _no_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) != len(pairs):
        raise ValueError("a key stands twice in one object")
    return values
