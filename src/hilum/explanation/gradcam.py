"""Grad-CAM by autograd, for any network and any layer: the oracle for the closed form, and what other heads need.

Selvaraju et al. 2017, "Grad-CAM: visual explanations from deep networks via gradient-based localization", ICCV,
doi:10.1109/ICCV.2017.74: the weights α_k are the gradient of logit k averaged over the pixels of a feature map A, and
the map is relu(Σ_c α_kc·A_c).
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from hilum.errors import UsageError, nearest
from hilum.models.classifier import Classifier


def grad_cam(
    network: nn.Module,
    images: Shaped[Tensor, "n c h w"],
    layer: str,
    outputs: Sequence[int] | None = None,
) -> Float[Tensor, "n k y x"]:
    """Heat maps of a network's outputs over the feature map of one of its layers.

    Args:
        network: images → logits [n, outputs], in eval mode.
        images: whatever the network takes.
        layer: fully-qualified name of a module whose output is a feature map; of a module that runs several times the
            last output counts.
        outputs: columns of the logits to explain; all when None.

    Returns:
        float32 [n, k, y, x], ≥ 0, in units of logit a pixel of the feature map; the sign of the evidence is lost.

    Raises:
        UsageError: the network is in training mode, or has no such layer, or the layer gives no map.
    """
    if network.training:
        raise UsageError("Grad-CAM needs a network in eval mode: dropout would change the answer. Call .eval() first.")
    with torch.enable_grad():
        maps, logits = _run(network, images, layer)
        columns = range(logits.shape[1]) if outputs is None else outputs
        gradients = [torch.autograd.grad(logits[:, k].sum(), maps, retain_graph=True)[0] for k in columns]
    weights = torch.stack(gradients, dim=1).mean(dim=(3, 4))
    return torch.relu(torch.einsum("nkc,ncyx->nkyx", weights, maps.detach()))


def classifier_grad_cam(
    classifier: Classifier, films: Shaped[Tensor, "n f h w"], layer: str | None = None
) -> Float[Tensor, "n k y x"]:
    """Heat maps of all findings over a layer of the encoder.

    Args:
        classifier: in eval mode.
        films: uint8 or float in [0, 1], [n, 1 or 3, h, w].
        layer: name of a layer of the encoder; its last one when None.

    Raises:
        UsageError: the classifier is in training mode, or has no such layer.
    """
    encoder = classifier.encoder
    name = encoder.layers[-1 if layer is None else encoder.position(layer)]
    return grad_cam(classifier, films, f"encoder.{name}")


def _run(network: nn.Module, images: Tensor, layer: str) -> tuple[Tensor, Tensor]:
    """The layer's output as a leaf of the graph, and the logits that follow from it."""
    modules = dict(network.named_modules())
    if layer not in modules:
        raise UsageError(f"The network has no layer {layer!r}. {nearest(layer, [n for n in modules if n][-20:])}")
    kept: list[Tensor] = []

    def keep(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        kept.append(output.detach().requires_grad_())
        return kept[-1].clone()  # the next layer may work in place, and must not reach what was kept

    handle = modules[layer].register_forward_hook(keep)
    try:
        logits: Tensor = network(images)
    finally:
        handle.remove()
    if not kept or kept[-1].ndim != 4:
        found = f"gives {list(kept[-1].shape)}" if kept else "never ran"
        raise UsageError(f"Layer {layer!r} {found}, but Grad-CAM needs a feature map [n, c, h, w]. Name another layer.")
    return kept[-1], logits
