"""The gradient through one residual block, taken three ways, and by which way it comes down.

With y = x + F(x) the chain rule gives ∂L/∂x = ∂L/∂y·(1 + ∂F/∂x): the gradient behind the block arrives at its input
unchanged, plus what comes through F. A ReLU after the addition, y = relu(x + F(x)), sets ∂L/∂y to zero first where
x + F(x) ≤ 0, on both ways. Here that is checked with whole Jacobians in float64, against autograd and against finite
differences.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from hilum.training.gradient_norms import inputs_of, undisturbed

STEP = 1e-6
"""Step of the finite differences: central ones err by about STEP² from curvature and by 1e-16 / STEP from rounding."""


class Block(Protocol):
    """A block that adds a branch to a shortcut (None for a plain block)."""

    shortcut: nn.Module | None

    def __call__(self, maps: Tensor) -> Tensor:
        """The block's output."""

    def branch(self, maps: Tensor) -> Tensor:
        """F(x)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockGradient:
    """∂L/∂x of one block for one given ∂L/∂y, and how far the three ways of taking it are apart."""

    size: float
    """Largest entry of ∂L/∂x by autograd, in size."""
    formula: float
    """Largest difference of (mask∘∂L/∂y)·(∂shortcut/∂x + ∂F/∂x) from autograd."""
    unmasked: float
    """The same without the mask; without a ReLU after the addition it is the same formula."""
    differences: float
    """Largest difference of finite differences from autograd."""
    identity: float
    """Largest difference of ∂shortcut/∂x from the unit matrix; NaN where it isn't square."""
    open_share: float
    """Share of outputs that the ReLU after the addition lets through; 1 without it."""
    without_branch: float
    """‖∂L/∂x‖ that would be left if ∂F/∂x were 0, over ‖∂L/∂y‖."""


def block_gradient(block: Block, maps: Float[Tensor, "n c h w"], upstream: Float[Tensor, "n d y x"]) -> BlockGradient:
    """Take ∂L/∂x of L = Σ ∂L/∂y ∘ y three ways.

    Args:
        block: in float64, in training mode: with BatchNorm every output depends on every image of the batch, and the
            Jacobians hold that too.
        maps: x, float64; the Jacobians have (numbers of y) × (numbers of x) entries, so keep it small.
        upstream: ∂L/∂y, float64.
    """
    x = maps.detach()

    def loss(at: Tensor) -> Tensor:
        return (block(at) * upstream).sum()

    def shortcut(at: Tensor) -> Tensor:
        return torch.zeros_like(upstream) + (0 * at.sum() if block.shortcut is None else block.shortcut(at))

    automatic = _jacobian(loss, x).flatten()
    ways = [_jacobian(way, x).reshape(-1, x.numel()) for way in (shortcut, block.branch)]
    with torch.no_grad():
        added = shortcut(x) + block.branch(x)
        # A block whose output is the sum itself has no ReLU behind it, whatever the sum's sign.
        mask = torch.ones_like(added) if torch.equal(block(x), added) else (added > 0).double()
    masked, unmasked = (mask * upstream).flatten(), upstream.flatten()
    square = ways[0].shape[0] == ways[0].shape[1]
    unit = torch.eye(x.numel(), dtype=x.dtype) if square else torch.full_like(ways[0], float("nan"))
    return BlockGradient(
        size=_largest(automatic),
        formula=_largest(masked @ (ways[0] + ways[1]) - automatic),
        unmasked=_largest(unmasked @ (ways[0] + ways[1]) - automatic),
        differences=_largest(_differences(loss, x) - automatic),
        identity=_largest(ways[0] - unit),
        open_share=float(mask.mean()),
        without_branch=float((masked @ ways[0]).norm() / unmasked.norm()),
    )


def _jacobian(way: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    found: Tensor = torch.autograd.functional.jacobian(way, x)  # type: ignore[no-untyped-call]
    return found


def _largest(values: Tensor) -> float:
    return float(values.abs().max())


@torch.no_grad()
def _differences(loss: Callable[[Tensor], Tensor], at: Tensor) -> Tensor:
    """Central finite differences of a loss, entry by entry."""
    found = []
    for i in range(at.numel()):
        step = torch.zeros(at.numel(), dtype=at.dtype)
        step[i] = STEP
        step = step.reshape(at.shape)
        found.append((loss(at + step) - loss(at - step)) / (2 * STEP))
    return torch.stack(found)


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockWays:
    """By which way the gradient comes down through one block of a network, and what its last ReLU lets through."""

    name: str
    """Name of the block."""
    by_shortcut: float
    """‖part of ∂L/∂x that came by the identity shortcut‖."""
    by_branch: float
    """‖part of ∂L/∂x that came through F‖."""
    open_share: float
    """Share of outputs that the ReLU after the addition lets through."""
    open_so_far: float
    """Share of outputs that it and those of all blocks before it in a row of equal shapes let through."""


def block_ways(
    network: nn.Module, images: Float[Tensor, "n c h w"], labels: Int64[Tensor, " n"]
) -> tuple[BlockWays, ...]:
    """Follow the gradient of the mean cross-entropy down through every block with identity shortcut and last ReLU.

    Args:
        network: whose blocks have ``relu2`` after the addition; it runs in training mode, and is left as it was.
        images: normalised.
        labels: numbers of the classes.
    """
    blocks = {n: b for n, b in network.named_modules() if isinstance(getattr(b, "shortcut", None), nn.Identity)}
    lasts = {name: block.get_submodule("relu2") for name, block in blocks.items()}
    with undisturbed(network), inputs_of(blocks) as inputs, inputs_of(lasts) as sums, torch.enable_grad():
        loss = cross_entropy(network.train()(images), labels)
        gradients = torch.autograd.grad(loss, [*inputs.values(), *sums.values()])
    names = list(inputs)
    found: list[BlockWays] = []
    still: Tensor | None = None
    for name, whole, shortcut in zip(names, gradients[: len(names)], gradients[len(names) :], strict=True):
        opened = sums[name].detach() > 0
        still = opened if still is None or still.shape != opened.shape else still & opened
        found.append(
            BlockWays(
                name=name,
                by_shortcut=float(shortcut.double().norm()),
                by_branch=float((whole - shortcut).double().norm()),
                open_share=float(opened.double().mean()),
                open_so_far=float(still.double().mean()),
            )
        )
    return tuple(found)
