"""What is known of the weights that go by a name: licence, preprocessing, labels, and what they were trained on."""

from dataclasses import dataclass, field

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedWeights:
    """Weights of one network that go by a name."""

    source: str
    """The name: ``imagenet`` or ``hilum``."""
    entry: str
    """torchvision's name of the weights, which knows URL and hash; or the file beside this module."""
    licence: str
    """Licence of the weights, and what binds their training data."""
    pretrained_on: tuple[str, ...]
    """Data sets that the weights have seen: no external validation can be claimed on them."""
    labels: str
    """What the published classifier told apart."""
    mean: tuple[float, ...] = IMAGENET_MEAN
    """Mean that input intensities in [0, 1] are normalised with."""
    std: tuple[float, ...] = IMAGENET_STD
    """Standard deviation that they are normalised with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightsInfo:
    """Where an encoder's weights came from."""

    name: str
    """``imagenet``, ``hilum``, ``none`` or the file's name."""
    backbone: str
    """The network they were loaded into."""
    sha256: str = ""
    """SHA-256 of the file as it was published or given; empty for random weights."""
    mean: tuple[float, ...] | None = None
    """Mean to normalise with; None when nothing is known (random weights)."""
    std: tuple[float, ...] | None = None
    """Standard deviation to normalise with; None when nothing is known."""
    batch_norm_folded: bool = False
    """BatchNorm is an identity (mean 0, variance 1): keep it in eval mode, or recalibrate it before training it."""
    pretrained_on: tuple[str, ...] = ()
    """Data sets that the weights have seen; ``not recorded`` when a file doesn't say."""
    licence: str = ""
    """Licence of the weights."""
    labels: str = ""
    """What the published classifier told apart."""
    notes: tuple[str, ...] = field(default=())
    """What a reader should know, one sentence each: keys left aside, assumptions made."""


def _imagenet(entry: str, **differing: tuple[float, ...]) -> NamedWeights:
    return NamedWeights(
        source="imagenet",
        entry=f"{entry}.IMAGENET1K_V1",
        licence="BSD-3-Clause (torchvision); the ImageNet terms ask for non-commercial research use of the images",
        pretrained_on=("imagenet-1k",),
        labels="the 1,000 classes of ILSVRC 2012",
        **differing,
    )


HALF = (0.5, 0.5, 0.5)

# One literal table: (source, network) → weights. GoogLeNet's were ported from TensorFlow, and torchvision undoes the
# usual normalisation inside the network (transform_input); without that step the input is normalised with 0.5 and 0.5.
NAMED_WEIGHTS: dict[tuple[str, str], NamedWeights] = {
    ("imagenet", "alexnet"): _imagenet("AlexNet_Weights"),
    ("imagenet", "vgg11"): _imagenet("VGG11_Weights"),
    ("imagenet", "vgg11_bn"): _imagenet("VGG11_BN_Weights"),
    ("imagenet", "vgg13"): _imagenet("VGG13_Weights"),
    ("imagenet", "vgg13_bn"): _imagenet("VGG13_BN_Weights"),
    ("imagenet", "vgg16"): _imagenet("VGG16_Weights"),
    ("imagenet", "vgg16_bn"): _imagenet("VGG16_BN_Weights"),
    ("imagenet", "vgg19"): _imagenet("VGG19_Weights"),
    ("imagenet", "vgg19_bn"): _imagenet("VGG19_BN_Weights"),
    ("imagenet", "googlenet"): _imagenet("GoogLeNet_Weights", mean=HALF, std=HALF),
    ("imagenet", "resnet18"): _imagenet("ResNet18_Weights"),
    ("imagenet", "resnet34"): _imagenet("ResNet34_Weights"),
    ("imagenet", "resnet50"): _imagenet("ResNet50_Weights"),
    ("imagenet", "resnet101"): _imagenet("ResNet101_Weights"),
    ("imagenet", "resnet152"): _imagenet("ResNet152_Weights"),
    ("imagenet", "resnext50_32x4d"): _imagenet("ResNeXt50_32X4D_Weights"),
    ("imagenet", "resnext101_32x8d"): _imagenet("ResNeXt101_32X8D_Weights"),
    ("imagenet", "densenet121"): _imagenet("DenseNet121_Weights"),
    ("imagenet", "densenet169"): _imagenet("DenseNet169_Weights"),
    ("imagenet", "densenet201"): _imagenet("DenseNet201_Weights"),
    ("imagenet", "efficientnet_b0"): _imagenet("EfficientNet_B0_Weights"),
    ("imagenet", "mobilenet_v2"): _imagenet("MobileNet_V2_Weights"),
    ("imagenet", "squeezenet1_0"): _imagenet("SqueezeNet1_0_Weights"),
    ("imagenet", "squeezenet1_1"): _imagenet("SqueezeNet1_1_Weights"),
    ("hilum", "hilum_small"): NamedWeights(
        source="hilum",
        entry="hilum_small.safetensors",
        licence="Apache-2.0",
        pretrained_on=("procedural images of hilum.datasets.procedural",),
        labels="factors of procedural images",
        mean=HALF,
        std=(0.25, 0.25, 0.25),
    ),
}
