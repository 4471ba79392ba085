"""The table of studies: names, questions, and where each is written. Reading it loads nothing heavy."""

from dataclasses import dataclass
from importlib import import_module
from types import ModuleType

from hilum.errors import UsageError, nearest


@dataclass(frozen=True, slots=True, kw_only=True)
class Study:
    """One study."""

    name: str
    """What the command calls it."""
    title: str
    """Heading of its report; the report adds what was measured."""
    question: str
    """What it asks."""
    module: str
    """Module in this room with ``SCALES`` (budget → how much is done) and ``run(bench, scale) → Outcome``; its
    docstring is the study's header."""
    topic: str
    """Page below ``docs/topics`` that explains it."""
    takes: tuple[str, ...] = ()
    """Which of ``weights``, ``backbone`` and ``image`` it heeds; the others are refused, not passed over."""

    def load(self) -> ModuleType:
        """The study's module."""
        return import_module(f"hilum.studies.{self.module}")


STUDIES: tuple[Study, ...] = (
    Study(
        name="cnn-vs-mlp",
        title="A CNN against a fully connected network",
        question="What does a CNN buy over a fully connected network on images?",
        module="cnn_vs_mlp",
        topic="cnn-vs-mlp.md",
    ),
    Study(
        name="lenet5",
        title="LeNet-5, the original and the modern form",
        question="How well does LeNet-5 read digits, as published in 1998 and as it is written today?",
        module="lenet5",
        topic="lenet5.md",
    ),
    Study(
        name="alexnet-vs-vgg",
        title="AlexNet, VGG16 and VGG19 side by side",
        question="What did VGG change after AlexNet, what does it cost, and what does each design choice buy?",
        module="alexnet_vs_vgg",
        topic="alexnet-vs-vgg.md",
        takes=("weights", "backbone"),
    ),
    Study(
        name="transfer-vs-scratch",
        title="Transfer learning against training from scratch",
        question="What does transfer learning save, in labels, time and arithmetic?",
        module="transfer_vs_scratch",
        topic="transfer-learning.md",
        takes=("weights", "backbone"),
    ),
    Study(
        name="residual-gradients",
        title="Residual connections and vanishing gradients",
        question="Why do residual connections help deep networks to train?",
        module="residual_gradients",
        topic="residual-learning.md",
    ),
    Study(
        name="vgg16-flowers",
        title="Fine-tuning on a small set of photographs",
        question="How far does a pretrained network with a new top get on a small photo set, in two stages?",
        module="vgg16_flowers",
        topic="fine-tuning.md",
        takes=("weights", "backbone"),
    ),
    Study(
        name="alexnet-filters",
        title="AlexNet's filters and feature maps",
        question="What do the layers of AlexNet look for in an image?",
        module="alexnet_filters",
        topic="filters-and-feature-maps.md",
        takes=("weights", "backbone", "image"),
    ),
    Study(
        name="googlenet-cifar10",
        title="GoogLeNet on CIFAR-10: does it over- or under-fit?",
        question="Do the curves of GoogLeNet show over-fitting or under-fitting, from when, and for want of what?",
        module="googlenet_cifar10",
        topic="inception-and-fitting.md",
        takes=("weights", "backbone"),
    ),
    Study(
        name="chest-xray",
        title="Backbones for chest films under one protocol",
        question="Which backbone, augmentation and answer to imbalance serve a small chest-film set best?",
        module="chest_xray",
        topic="chest-xray.md",
        takes=("weights", "backbone"),
    ),
)
"""All studies, in the order in which the atlas shows them."""


def study(name: str) -> Study:
    """A study by name.

    Raises:
        UsageError: no such study; the message lists the nearest.
    """
    known = {row.name: row for row in STUDIES}
    if name not in known:
        raise UsageError(f"There is no study {name!r}. {nearest(name, tuple(known))}")
    return known[name]
