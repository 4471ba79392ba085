"""Grad-CAM by autograd: the oracle of the closed form, checked itself against captum and by hand."""

import importlib.util
import warnings

import numpy as np
import pytest
import torch
from torch import nn

from hilum.errors import UsageError
from hilum.explanation.gradcam import classifier_grad_cam, grad_cam
from hilum.models.classifier import Classifier, ClassifierConfig, build_classifier
from hilum.models.explained import Explained
from hilum.models.zoo import ARCHITECTURES


def classifier_of(backbone: str, **fields: object) -> Classifier:
    config = ClassifierConfig(
        backbone=backbone, findings=("normal", "pneumonia", "covid-19"), **{"size": 64, "hidden": 32, **fields}
    )
    return build_classifier(config, "none", 0)[0].eval()


@pytest.fixture
def films() -> torch.Tensor:
    return torch.randint(0, 256, (3, 1, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(5))


@pytest.mark.parametrize("backbone", ["hilum_small", "densenet121", "efficientnet_b0", "resnet18", "squeezenet1_0"])
def test_closed_form_equals_autograd(backbone: str, films: torch.Tensor) -> None:
    classifier = classifier_of(backbone)
    with torch.inference_mode():
        closed = Explained([classifier])(films).cam
    traced = classifier_grad_cam(classifier, films)
    scale = max(1.0, traced.abs().max().item())  # untrained nets may have maps of thousands
    assert traced.max() > 0
    assert (closed - traced).abs().max() <= 1e-5 * scale


def test_closed_form_equals_hirescam_and_captum(films: torch.Tensor) -> None:
    """HiResCAM (arXiv:2011.08891) multiplies gradient and map cell by cell: behind a pooled head the same map."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # captum's own imports
        from captum.attr import LayerGradCam
    classifier = classifier_of("hilum_small")
    with torch.inference_mode():
        closed = Explained([classifier])(films).cam
    maps = classifier.features(films).detach().requires_grad_()
    logits = classifier.head(maps)
    last = LayerGradCam(classifier, classifier.encoder.layer(classifier.encoder.layers[-1]))
    for k in range(3):
        (gradient,) = torch.autograd.grad(logits[:, k].sum(), maps, retain_graph=True)
        hires = torch.relu((gradient * maps).sum(1)).detach()
        theirs = last.attribute(films.float() / 255, target=k, relu_attributions=True)[:, 0].detach()
        assert hires.max() > 0
        assert (closed[:, k] - hires).abs().max() <= 1e-5
        assert (closed[:, k] - theirs).abs().max() <= 1e-5


@pytest.mark.skipif(
    importlib.util.find_spec("pytorch_grad_cam") is None,
    reason="grad-cam isn't installed: it brings OpenCV; pip install --no-deps grad-cam ttach opencv-python-headless",
)
@pytest.mark.parametrize("method", ["GradCAM", "HiResCAM"])
@pytest.mark.parametrize("backbone", ["hilum_small", "resnet18"])
def test_closed_form_equals_the_grad_cam_library(backbone: str, method: str, films: torch.Tensor) -> None:
    """The weighted sum that the library scales to its own largest value afterwards."""
    import pytorch_grad_cam

    classifier = classifier_of(backbone)
    with torch.inference_mode():
        closed = Explained([classifier])(films).cam
    layer = classifier.encoder.layer(classifier.encoder.layers[-1])
    with getattr(pytorch_grad_cam, method)(model=classifier, target_layers=[layer]) as library:
        for k in range(3):
            watched = library.activations_and_grads
            classifier.zero_grad()
            watched(films)[:, k].sum().backward()
            maps, gradients = (one[0].numpy() for one in (watched.activations, watched.gradients))
            theirs = library.get_cam_image(films, layer, None, maps, gradients, eigen_smooth=False)
            assert theirs.max() > 0
            assert np.abs(closed[:, k].numpy() - np.maximum(theirs, 0)).max() <= 1e-5 * max(1.0, np.abs(theirs).max())


@pytest.mark.long
@pytest.mark.parametrize("backbone", sorted(ARCHITECTURES))
def test_closed_form_equals_autograd_for_every_network_of_the_zoo(backbone: str) -> None:
    """Every row of the zoo becomes a classifier with the pooled head, at the size that it was made for."""
    size = ARCHITECTURES[backbone].size
    films = torch.randint(0, 256, (1, 1, size, size), dtype=torch.uint8, generator=torch.Generator().manual_seed(5))
    classifier = classifier_of(backbone, size=size)
    with torch.inference_mode():
        closed = Explained([classifier])(films).cam
    traced = classifier_grad_cam(classifier, films)
    assert (closed - traced).abs().max() <= 1e-5 * max(1.0, traced.abs().max().item())


@pytest.mark.parametrize("layer", ["block3", "block5"])
def test_any_layer_agrees_with_captum(layer: str, films: torch.Tensor) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # captum's own imports
        from captum.attr import LayerGradCam
    classifier = classifier_of("hilum_small")
    ours = classifier_grad_cam(classifier, films, layer)
    images = films.float() / 255
    theirs = LayerGradCam(classifier, classifier.encoder.layer(layer)).attribute(images, target=1)
    torch.testing.assert_close(ours[:, 1:2], torch.relu(theirs).detach(), rtol=1e-4, atol=1e-7)


def test_by_hand_on_one_map() -> None:
    """Logit k is w_k·mean(A): α = w_k/4, so the map is relu(w_k·A/4)."""
    network = nn.Sequential(nn.Identity(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(1, 2, bias=False)).eval()
    with torch.no_grad():
        network[3].weight.copy_(torch.tensor([[4.0], [-8.0]]))
    image = torch.tensor([[[[1.0, -2.0], [3.0, 4.0]]]])
    maps = grad_cam(network, image, "0")
    assert maps[0].tolist() == [[[1.0, 0.0], [3.0, 4.0]], [[0.0, 4.0], [0.0, 0.0]]]


def test_flatten_heads_are_explained_too(films: torch.Tensor) -> None:
    """A head that flattens weighs every pixel by itself; the closed form does not hold, autograd does."""
    network = nn.Sequential(nn.Conv2d(1, 2, 8, 8), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(128, 2)).eval()
    maps = grad_cam(network, films.float() / 255, "1", outputs=[1])
    assert maps.shape == (3, 1, 8, 8)


def test_an_in_place_layer_behind_does_not_change_what_is_explained(films: torch.Tensor) -> None:
    images = films.float() / 255 - 0.5
    heatmaps = []
    for in_place in (True, False):
        torch.manual_seed(0)
        layers = (nn.Conv2d(1, 2, 8, 8), nn.ReLU(inplace=in_place), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        heatmaps.append(grad_cam(nn.Sequential(*layers, nn.Linear(2, 2)).eval(), images, "0"))
    assert torch.equal(*heatmaps)


def test_it_works_inside_no_grad_and_on_a_frozen_network(films: torch.Tensor) -> None:
    classifier = classifier_of("hilum_small").requires_grad_(False)
    with torch.no_grad():
        assert classifier_grad_cam(classifier, films).shape == (3, 3, 4, 4)


def test_the_hook_is_gone_afterwards(films: torch.Tensor) -> None:
    classifier = classifier_of("hilum_small")
    classifier_grad_cam(classifier, films)
    assert not classifier.encoder.layer("block5")._forward_hooks


def test_refusals(films: torch.Tensor) -> None:
    classifier = classifier_of("hilum_small")
    with pytest.raises(UsageError, match=r"Grad-CAM needs a network in eval mode.*Call \.eval\(\) first"):
        grad_cam(classifier.train(), films, "encoder.block5")
    classifier.eval()
    with pytest.raises(UsageError, match="The network has no layer 'encoder.block9'"):
        grad_cam(classifier, films, "encoder.block9")
    with pytest.raises(UsageError, match=r"Layer 'head.fc1' gives \[3, 32\], but Grad-CAM needs a feature map"):
        grad_cam(classifier, films, "head.fc1")
    unused = nn.Sequential(nn.Flatten(), nn.Linear(4096, 2)).eval()
    unused[0].spare = nn.Conv2d(1, 1, 1)
    with pytest.raises(UsageError, match="Layer '0.spare' never ran, but Grad-CAM needs a feature map"):
        grad_cam(unused, films.float(), "0.spare")
    with pytest.raises(UsageError, match="Layer 'block6' is not in the encoder of hilum_small"):
        classifier_grad_cam(classifier, films, "block6")
