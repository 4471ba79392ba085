"""One forward pass answers everything: classes, calibrated probabilities, uncertainty, heat maps, drift features.

With a head ``GAP → Linear(W1, b1) → ReLU → Dropout(p) → Linear(W2, b2)`` over maps A, and ``h = W1·GAP(A) + b1``,
the gradient of logit k with respect to A is the same at every pixel: ``α_k = W2[k]·diag(1[h>0])·W1 / HW``. So Grad-CAM
(Selvaraju et al. 2017, doi:10.1109/ICCV.2017.74) of all classes is ``relu(α·A)``, exact and without a backward pass,
and ``Σ_ij α·A + W2·(1[h>0]∘b1) + b2`` is the logits. MC-dropout (Gal, Ghahramani 2016, arXiv:1506.02142) touches the
head only: its masks are constants, one small matrix product.
"""

from collections.abc import Sequence
from typing import NamedTuple, cast

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from hilum.errors import UsageError
from hilum.models.calibrated import Scaled
from hilum.models.classifier import Classifier
from hilum.models.encoders import Cut
from hilum.models.heads import Head
from hilum.models.side_by_side import plan_of, run_plan
from hilum.randomness import stream

SAMPLES = 32
"""Dropout masks for each member."""


class Explanation(NamedTuple):
    """What one pass answers: n films, k findings, d features, heat maps of h × w."""

    logits: Float[Tensor, "n k"]
    """Mean of the members' logits, before calibration."""
    probabilities: Float[Tensor, "n k"]
    """Mean over members of softmax(logits / temperature)."""
    mc_mean: Float[Tensor, "n k"]
    """Mean probability over members and dropout masks."""
    mc_std: Float[Tensor, "n k"]
    """Standard deviation of the probability over members and dropout masks."""
    mutual_information: Float[Tensor, " n"]
    """What members and masks disagree on, in nats: entropy of the mean minus mean of the entropies, ≥ 0."""
    cam: Float[Tensor, "n k h w"]
    """Grad-CAM of every finding, ≥ 0, in units of logit a pixel of the feature map; mean over members."""
    cam_std: Float[Tensor, "n k h w"]
    """Standard deviation of α·A, before its ReLU, over members and all dropout masks, in closed form."""
    features: Float[Tensor, "n d"]
    """Pooled feature maps, by which drift is measured; mean over members."""
    member_std: Float[Tensor, "n k"]
    """Standard deviation over members of their calibrated probabilities; zero for one member."""


OUTPUTS: tuple[str, ...] = Explanation._fields
"""Names of the outputs, in the graph's order."""


class MemberAnswer(NamedTuple):
    """One member's part of the answer, or that of m members with m before all other axes."""

    logits: Float[Tensor, "*m n k"]
    """Before calibration."""
    samples: Float[Tensor, "*m n t k"]
    """The same under each dropout mask."""
    evidence: Float[Tensor, "*m n k h w"]
    """α·A, before its ReLU."""
    spread: Float[Tensor, "*m n k h w"]
    """Variance of the evidence over all dropout masks."""
    features: Float[Tensor, "*m n d"]
    """Pooled feature maps."""


class Member(nn.Module):
    """One head with its constant dropout masks, and what the encoder does behind the shared prefix.

    Args:
        classifier: whose head it is.
        cut: where the encoder is cut; the layers from there on are this member's own.
        masks: [t, hidden], 0 where a unit is dropped and 1/(1 − p) where it is kept.
    """

    masks: Tensor

    def __init__(self, classifier: Classifier, cut: Cut, masks: Tensor) -> None:
        super().__init__()
        encoder = classifier.encoder
        self.layers = nn.ModuleList(encoder.modules_from(cut))
        self.fc1, self.fc2 = classifier.head.first_layer(), classifier.head.fc2
        dropout = classifier.head.dropout.p
        self.odds = dropout / (1 - dropout)
        self.register_buffer("masks", masks)

    def forward(self, maps: Float[Tensor, "n c y x"]) -> MemberAnswer:
        """Answer for the maps at the cut."""
        return answer_of_head(self.last_maps(maps), self.weights(), self.odds)

    def weights(self) -> "HeadWeights":
        """The head's constants."""
        return HeadWeights(self.fc1.weight, self.fc1.bias, self.fc2.weight, self.fc2.bias, self.masks)

    def last_maps(self, maps: Float[Tensor, "n c y x"]) -> Float[Tensor, "n d h w"]:
        """Maps at the cut to the maps behind the encoder's last activation."""
        if len(self.layers) and getattr(self.layers[0], "inplace", False):
            maps = maps.clone()  # the other members need them as they are
        for layer in self.layers:
            maps = layer(maps)
        return maps


class HeadWeights(NamedTuple):
    """A head's constants, or those of m heads with m before all other axes."""

    w1: Float[Tensor, "*m hidden d"]
    b1: Float[Tensor, "*m hidden"]
    w2: Float[Tensor, "*m k hidden"]
    b2: Float[Tensor, "*m k"]
    masks: Float[Tensor, "*m t hidden"]


def answer_of_head(maps: Float[Tensor, "*m n d h w"], head: HeadWeights, odds: float) -> MemberAnswer:
    """The closed forms behind the last feature maps.

    Args:
        maps: of one member, or of m.
        head: its constants, or theirs.
        odds: p/(1 − p) of dropout.
    """
    height, width = maps.shape[-2:]
    features = maps.mean(dim=(-2, -1))
    hidden = features @ head.w1.mT + head.b1.unsqueeze(-2)
    active = (hidden > 0).to(maps.dtype)
    alive = hidden * active
    logits = alive @ head.w2.mT + head.b2.unsqueeze(-2)
    dropped = alive.unsqueeze(-2) * head.masks.unsqueeze(-3)
    samples = dropped @ head.w2.mT.unsqueeze(-3) + head.b2.unsqueeze(-2).unsqueeze(-2)
    # W1·A at every pixel, without its bias: both the heat map and its spread are weighted sums of these.
    responses = torch.matmul(head.w1.unsqueeze(-3), maps.flatten(-2)) / (height * width)
    weights = head.w2.unsqueeze(-3) * active.unsqueeze(-2)
    evidence = _on_grid(torch.matmul(weights, responses), height, width)
    variance = odds * _on_grid(torch.matmul(weights * weights, responses * responses), height, width)
    return MemberAnswer(logits, samples, evidence, variance, features)


def _on_grid(cells: Tensor, height: int, width: int) -> Tensor:
    return cells.reshape(*cells.shape[:-1], height, width)


class Explained(nn.Module):
    """Films → everything that a reader is shown, as one graph.

    Args:
        members: one classifier, or several of one architecture.
        temperature: by which logits are divided before softmax, > 0.
        calibrate: logits → probabilities in its place, such as :class:`hilum.models.calibrated.Sigmoids`.
        cut: several members share the layers before this cut, whose weights must be equal in all of them; None runs
            each member whole.
        samples: dropout masks for each member.
        seed: of the masks, which are constants of the graph.

    Raises:
        UsageError: no member, members of different kinds, a prefix that is not shared, or a wrong temperature.
    """

    def __init__(
        self,
        members: Sequence[Classifier],
        *,
        temperature: float = 1.0,
        calibrate: nn.Module | None = None,
        cut: Cut | None = None,
        samples: int = SAMPLES,
        seed: int = 0,
    ) -> None:
        super().__init__()
        _check(members, temperature)
        first = members[0]
        position = 0 if cut is None else first.encoder.position(cut)
        if cut is not None:
            _check_shared(members, position)
        self.findings = first.config.findings
        kinds = len(self.findings)
        self.calibrate = calibrate or Scaled((1 / temperature,) * kinds, (0.0,) * kinds)
        self.image_channels = first.config.image_channels
        self.size = first.config.size
        self.normalise = first.normalise
        self.shared = nn.ModuleList(first.encoder.modules_before(position))
        self.members = nn.ModuleList(
            Member(member, position, dropout_masks(member.head, samples, seed, index))
            for index, member in enumerate(members)
        )
        # Whole networks keep the processor busy by themselves; side by side they would only need more memory.
        self.plan = plan_of(list(self._each()[0].layers)) if cut is not None and len(members) > 1 else None
        self.eval()

    def forward(self, films: UInt8[Tensor, "n f h w"]) -> Explanation:
        """Answer a batch.

        Args:
            films: uint8 [n, 1 or 3, h, w], as preprocessing gives them; normalisation is inside.

        Returns:
            the answers in the order of :data:`OUTPUTS`.
        """
        if len(self.members) == 1 or not self._heads_alike():
            return self.together(self.apart(films))
        maps = self._shared_maps(films)
        # All heads at once: a few products that keep the processor busy, in place of many that don't.
        if self.plan is None:
            last = torch.stack([member.last_maps(maps.clone()) for member in self._each()])
        else:
            last = run_plan(self.plan, [member.layers for member in self._each()], maps)
        weights = HeadWeights(*map(torch.stack, zip(*(member.weights() for member in self._each()), strict=True)))
        return self._combined(answer_of_head(last, weights, self._each()[0].odds))

    def apart(self, films: UInt8[Tensor, "n f h w"]) -> list[MemberAnswer]:
        """What each member says by itself."""
        maps = self._shared_maps(films)
        # Each member takes a copy where it could overwrite the maps that the next one needs.
        return [cast(MemberAnswer, member(maps.clone() if len(self.members) > 1 else maps)) for member in self.members]

    def together(self, answers: Sequence[MemberAnswer]) -> Explanation:
        """The answer of some members, or of all."""
        return self._combined(MemberAnswer(*map(torch.stack, zip(*answers, strict=True))))

    def _shared_maps(self, films: Tensor) -> Tensor:
        maps: Tensor = self.normalise(films)
        for layer in self.shared:
            maps = layer(maps)
        return maps

    def _each(self) -> list[Member]:
        return [cast(Member, member) for member in self.members]

    def _heads_alike(self) -> bool:
        return len({(member.odds, member.fc1.out_features) for member in self._each()}) == 1

    def _combined(self, answers: MemberAnswer) -> Explanation:
        """The answer of members that stand along the first axis."""
        logits, evidence = answers.logits, answers.evidence
        chances = self.calibrate(logits)
        probabilities = chances.mean(0)
        sampled = self.calibrate(answers.samples.transpose(0, 1).flatten(1, 2))
        mc_mean = sampled.mean(1)
        between = _spread(evidence, 0) ** 2
        within = answers.spread.mean(0)
        return Explanation(
            logits=logits.mean(0),
            probabilities=probabilities,
            mc_mean=mc_mean,
            mc_std=_spread(sampled, 1),
            mutual_information=torch.relu(_entropy(mc_mean) - _entropy(sampled).mean(1)),
            cam=torch.relu(evidence).mean(0),
            cam_std=torch.sqrt(within + between),
            features=answers.features.mean(0),
            member_std=_spread(chances, 0),
        )


def dropout_masks(head: Head, samples: int, seed: int, member: int) -> Float[Tensor, "t hidden"]:
    """Constant dropout masks of one member, from their own stream: 0 with probability p, else 1/(1 − p)."""
    dropout = head.dropout.p
    uniform = stream(seed, "dropout-masks", member).random((samples, head.fc1.out_features))
    return torch.from_numpy(((uniform >= dropout) / (1 - dropout)).astype(np.float32))


def _spread(values: Tensor, dim: int) -> Tensor:
    """Population standard deviation, from deviations: the difference of squares would lose small spreads."""
    deviations = values - values.mean(dim, keepdim=True)
    return torch.sqrt((deviations * deviations).mean(dim))


def _entropy(probabilities: Tensor) -> Tensor:
    """Entropy in nats over the last axis; 0·log 0 is 0."""
    return -(probabilities * torch.log(probabilities.clamp_min(1e-12))).sum(-1)


def _check(members: Sequence[Classifier], temperature: float) -> None:
    if not members:
        raise UsageError("An explained classifier needs at least one member, but got none. Give a trained classifier.")
    kinds = {(m.config.backbone, m.config.findings, m.config.size, m.config.image_channels) for m in members}
    if len(kinds) > 1:
        raise UsageError(
            f"Members differ in backbone, findings, size or channels: {sorted(map(str, kinds))}. "
            "Make an ensemble of one kind."
        )
    if len({(m.config.mean, m.config.std) for m in members}) > 1:
        raise UsageError("Members normalise with different mean and std. Make an ensemble of members trained alike.")
    if not temperature > 0:
        raise UsageError(f"temperature is {temperature}, but must be above 0. Fit it on validation data.")


def _check_shared(members: Sequence[Classifier], position: int) -> None:
    """Every member must have the first one's weights before the cut; otherwise a shared prefix would be a wrong one."""
    reference = members[0].encoder.modules_before(position)
    for index, member in enumerate(members[1:], start=1):
        for name, ours, theirs in zip(
            member.encoder.layers, reference, member.encoder.modules_before(position), strict=False
        ):
            theirs_state = theirs.state_dict()
            differing = [key for key, value in ours.state_dict().items() if not torch.equal(value, theirs_state[key])]
            if differing:
                raise UsageError(
                    f"Member {index} differs from member 0 in layer {name} ({differing[0]}), which lies before the "
                    "cut. Share no prefix (cut=None), or one that training left frozen."
                )
