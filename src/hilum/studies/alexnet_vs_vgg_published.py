"""What was published of AlexNet's and VGG's errors, each figure with its protocol, its source, and how it was checked.

A top-5 error without its split, crops and number of networks can't be compared with another. Rows say all of it.
"""

from typing import Any

ALEXNET_PAPER = "Krizhevsky, Sutskever, Hinton 2012, NIPS 25, doi:10.1145/3065386"
VGG_PAPER = "Simonyan, Zisserman 2015, ICLR, arXiv:1409.1556"

READ = "in transcriptions of the paper, not in the publisher's file"
"""How figures of the two papers were checked: the papers themselves could not be had where this was written."""
PACKAGED = "in the installed torchvision; the accuracy itself was not measured here"
"""How figures of torchvision's weights were checked."""

SEVEN = "AlexNet, 2 of 7 pretrained on ImageNet 2011"
TEN_CROPS = "10 crops, averaged"
DENSE = "dense, 3 scales"
BOTH = "50 crops a scale and dense, 3 scales"
ONE_CROP = "one centre crop, 1 scale"

ROWS: tuple[tuple[str, int, float | None, float, str, str, str, str], ...] = (
    ("AlexNet", 1, 40.7, 18.2, "val", TEN_CROPS, f"{ALEXNET_PAPER}, table 2", READ),
    ("AlexNet", 5, 38.1, 16.4, "val", TEN_CROPS, f"{ALEXNET_PAPER}, table 2", READ),
    ("AlexNet", 5, None, 16.4, "test", TEN_CROPS, f"{ALEXNET_PAPER}, table 2", READ),
    (SEVEN, 7, 36.7, 15.4, "val", TEN_CROPS, f"{ALEXNET_PAPER}, table 2", READ),
    (SEVEN, 7, None, 15.3, "test", TEN_CROPS, f"{ALEXNET_PAPER}, table 2", READ),
    ("VGG16", 1, 25.6, 8.1, "val", "dense, 1 scale", f"{VGG_PAPER}, table 3", READ),
    ("VGG16", 1, 24.8, 7.5, "val", DENSE, f"{VGG_PAPER}, tables 4 and 5", READ),
    ("VGG16", 1, 24.4, 7.2, "val", BOTH, f"{VGG_PAPER}, table 5", READ),
    ("VGG19", 1, 25.5, 8.0, "val", "dense, 1 scale", f"{VGG_PAPER}, table 3", READ),
    ("VGG19", 1, 24.8, 7.5, "val", DENSE, f"{VGG_PAPER}, tables 4 and 5", READ),
    ("VGG19", 1, None, 7.3, "test", DENSE, f"{VGG_PAPER}, section 4.2", READ),
    ("VGG19", 1, 24.4, 7.1, "val", BOTH, f"{VGG_PAPER}, tables 5 and 7", READ),
    ("VGG19", 1, None, 7.0, "test", BOTH, f"{VGG_PAPER}, table 7", READ),
    ("VGG, submission of 2014", 7, 24.7, 7.5, "val", DENSE, f"{VGG_PAPER}, tables 6 and 7", READ),
    ("VGG, submission of 2014", 7, None, 7.3, "test", DENSE, f"{VGG_PAPER}, tables 6 and 7", READ),
    ("VGG16 and VGG19", 2, 23.7, 6.8, "val", BOTH, f"{VGG_PAPER}, tables 6 and 7", READ),
    ("VGG16 and VGG19", 2, None, 6.8, "test", BOTH, f"{VGG_PAPER}, tables 6 and 7", READ),
)  # fmt: skip
"""Network, how many of them, top-1 error (None: not given), top-5 error, split, crops, source, how it was checked."""

WEIGHTS = (("alexnet", "AlexNet_Weights"), ("vgg16", "VGG16_Weights"), ("vgg19", "VGG19_Weights"))
"""Networks of the zoo, and torchvision's names of their published weights."""


def published_dicts() -> list[dict[str, Any]]:
    """All rows as records, those of torchvision's weights read from the installed package."""
    keys = ("network", "nets", "top_1_error", "top_5_error", "split", "evaluation", "source", "checked")
    return [dict(zip(keys, row, strict=True)) for row in ROWS] + [
        {
            "network": f"{name}, torchvision's weights",
            "nets": 1,
            "top_1_error": facts["top_1_error"],
            "top_5_error": facts["top_5_error"],
            "split": "val",
            "evaluation": ONE_CROP,
            "source": "torchvision's documentation of the weights",
            "checked": PACKAGED,
        }
        for name, facts in weights_facts().items()
    ]


def weights_facts() -> dict[str, dict[str, float]]:
    """What torchvision records of the published weights: errors in per cent, and the file's size in MiB."""
    from torchvision.models import get_weight

    found = {}
    for name, entry in WEIGHTS:
        meta = get_weight(f"{entry}.IMAGENET1K_V1").meta
        accuracy = meta["_metrics"]["ImageNet-1K"]
        found[name] = {
            "top_1_error": round(100 - accuracy["acc@1"], 3),
            "top_5_error": round(100 - accuracy["acc@5"], 3),
            "file_mib": float(meta["_file_size"]),
        }
    return found
