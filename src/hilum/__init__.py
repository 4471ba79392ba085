"""hilum: CNN studies that measure what they claim, and a chest X-ray classifier taken to the reading room.

Names below are imported when first used, so ``import hilum`` costs milliseconds and never loads torch by itself.
"""

from importlib import import_module

__version__ = "0.1.0.dev0"

_EXPORTS = {
    "HilumError": "hilum.errors",
    "Findings": "hilum.labels",
    "Predictions": "hilum.predictions",
    "Radiograph": "hilum.imaging.radiograph",
    "read_film": "hilum.imaging.reading",
    "Manifest": "hilum.datasets.manifest",
    "Scorecard": "hilum.evaluation.scorecard",
    "open_bundle": "hilum.inference.assess",
    "train": "hilum.runs.train",
    "run_study": "hilum.studies.running",
}

__all__ = ["__version__", *_EXPORTS]


def __getattr__(name: str) -> object:
    if name not in _EXPORTS:
        raise AttributeError(f"module 'hilum' has no attribute {name!r}; it exports {', '.join(sorted(_EXPORTS))}")
    return getattr(import_module(_EXPORTS[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
