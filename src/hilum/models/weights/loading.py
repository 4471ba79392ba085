"""Load an encoder's weights strictly: every tensor of the encoder must be there, in its shape, and finite."""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from hilum.errors import WeightsError
from hilum.models.encoders import Encoder
from hilum.models.weights.fetching import fetch_published, published_url, read_file
from hilum.models.weights.registry import NAMED_WEIGHTS, NamedWeights, WeightsInfo
from hilum.models.zoo import published_network
from hilum.progress import Progress, Silent
from hilum.provenance import sha256_file

__all__ = ["CACHE", "WeightsInfo", "batch_norm_folded", "load_weights"]

SHIPPED = Path(__file__).parent
"""Folder of the weights that travel with the package."""

CACHE = Path("~/.cache/hilum/weights")
"""Where downloaded weights are kept when no folder is given."""

AUXILIARY = {"aux1", "aux2"}
"""GoogLeNet's auxiliary classifiers: in its published file, never in an encoder."""

OLD_DENSENET = re.compile(r"(denselayer\d+\.(?:norm|conv))\.([12])\.")
"""DenseNet's published files come from a time when a dot was allowed in the name of ``norm1`` or ``conv2``."""

SHOWN = 5


def load_weights(
    encoder: Encoder,
    source: str | Path,
    *,
    cache: Path | None = None,
    url: str | None = None,
    progress: Progress = Silent(),  # noqa: B008 - it has no state
    may_download: bool = True,
) -> WeightsInfo:
    """Fill an encoder, in place.

    Args:
        encoder: what to fill.
        source: ``imagenet`` (torchvision's published weights), ``hilum`` (shipped with the package), ``none`` (leave
            it random), or a .safetensors file (or torchvision's .pth).
        cache: folder that keeps downloaded weights.
        url: where the published weights are, when not where torchvision says.
        progress: where a download reports to.
        may_download: whether published weights that are not in the cache may be downloaded.

    Returns:
        where the weights came from, and what must be known to use them.

    Raises:
        WeightsError: there are no such weights, they can't be had, or they don't fit; the encoder is as it was.
    """
    if str(source) == "none":
        return WeightsInfo(name="none", backbone=encoder.name)
    if str(source) in ("imagenet", "hilum"):
        folder = (cache or CACHE).expanduser()
        return _load_named(encoder, str(source), folder, url, progress, may_download=may_download)
    file = Path(source)
    tensors, metadata, digest = read_file(file)
    notes = _fill(encoder, tensors, file.name)
    return _file_info(encoder, file.name, digest, metadata, notes)


def _load_named(
    encoder: Encoder, source: str, cache: Path, url: str | None, progress: Progress, *, may_download: bool
) -> WeightsInfo:
    known = NAMED_WEIGHTS.get((source, encoder.name))
    if known is None:
        having = ", ".join(backbone for name, backbone in NAMED_WEIGHTS if name == source)
        raise WeightsError(f"There are no {source!r} weights of {encoder.name}. They exist for: {having}.")
    if source == "hilum":
        file = SHIPPED / known.entry
        if not file.is_file():
            raise WeightsError(
                f"The shipped weights {known.entry} are missing from this installation. Install hilum again, or make "
                "them with hilum pretrain and pass the file with --weights FILE."
            )
        tensors, digest = read_file(file)[0], sha256_file(file)
    else:
        tensors, digest = fetch_published(
            url or published_url(known.entry),
            cache,
            backbone=encoder.name,
            progress=progress,
            may_download=may_download,
        )
    notes = _fill(encoder, tensors, f"{source} weights of {encoder.name}")
    return _named_info(encoder, known, digest, notes)


def _fill(encoder: Encoder, tensors: Mapping[str, Tensor], what: str) -> tuple[str, ...]:
    """Compare, then copy. Returns what a reader should know."""
    renamed = {OLD_DENSENET.sub(r"\1\2.", key): value for key, value in tensors.items()}
    ours, aside = _left_aside(encoder, renamed)
    wanted = encoder.state_dict()
    # Counters of batches seen steer only a cumulative average that none of these networks uses; old files lack them.
    missing = [key for key in wanted if key not in ours and not key.endswith("num_batches_tracked")]
    unexpected = [key for key in ours if key not in wanted]
    shapes = [
        f"{key} is {list(ours[key].shape)} but must be {list(wanted[key].shape)}"
        for key in wanted
        if key in ours and ours[key].shape != wanted[key].shape
    ]
    if missing or unexpected or shapes:
        raise WeightsError(_difference(what, encoder.name, missing, unexpected, shapes))
    broken = [key for key, value in ours.items() if not torch.isfinite(value).all()]
    if broken:
        raise WeightsError(f"{what} hold values that are not finite, in {_few(broken)}. Get them anew.")
    encoder.load_state_dict({**wanted, **ours})
    return (f"{len(aside)} tensors of the published classifier were left aside ({_few(aside)}).",) if aside else ()


def _left_aside(encoder: Encoder, tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    """Tensors for the encoder, and keys of the published classifier, which an encoder has no use for."""
    kept = {layer.split(".")[0] for layer in encoder.layers}
    tops = {name for name, _ in published_network(encoder.name).named_children()} | AUXILIARY
    aside = [key for key in tensors if key.split(".")[0] in tops - kept]
    return {key: value for key, value in tensors.items() if key not in aside}, aside


def _difference(what: str, backbone: str, missing: list[str], unexpected: list[str], shapes: list[str]) -> str:
    parts = [
        f"{len(items)} {kind}: {_few(items)}"
        for kind, items in (("missing", missing), ("unexpected", unexpected), ("of a wrong shape", shapes))
        if items
    ]
    return f"{what} doesn't fit the encoder of {backbone}: {'; '.join(parts)}. Give whole weights of {backbone}."


def _few(items: Iterable[str]) -> str:
    listed = list(items)
    more = f" and {len(listed) - SHOWN} more" if len(listed) > SHOWN else ""
    return ", ".join(listed[:SHOWN]) + more


def batch_norm_folded(encoder: Encoder) -> bool:
    """Whether every BatchNorm normalises with mean 0 and variance 1 − eps (or 1): it was folded into its neighbours."""
    norms = [layer for layer in encoder.modules() if isinstance(layer, _BatchNorm)]
    return bool(norms) and all(_is_identity(norm) for norm in norms)


def _is_identity(norm: _BatchNorm) -> bool:
    if norm.running_mean is None or norm.running_var is None:
        return False
    flat = bool((norm.running_mean == 0).all())
    return flat and bool(((norm.running_var - 1).abs() <= 2 * norm.eps).all())


def _named_info(encoder: Encoder, known: NamedWeights, digest: str, notes: tuple[str, ...]) -> WeightsInfo:
    return WeightsInfo(
        name=known.source,
        backbone=encoder.name,
        sha256=digest,
        mean=known.mean,
        std=known.std,
        batch_norm_folded=batch_norm_folded(encoder),
        pretrained_on=known.pretrained_on,
        licence=known.licence,
        labels=known.labels,
        notes=notes,
    )


def _file_info(
    encoder: Encoder, name: str, digest: str, metadata: Mapping[str, str], notes: tuple[str, ...]
) -> WeightsInfo:
    """What a file says of itself; where it is silent, the backbone's usual preprocessing, and a note that says so."""
    usual = next((row for (_, backbone), row in NAMED_WEIGHTS.items() if backbone == encoder.name), None)
    mean, std = _numbers(metadata.get("mean"), name), _numbers(metadata.get("std"), name)
    if (mean is None or std is None) and usual is not None:
        mean, std = usual.mean, usual.std
        notes += (f"{name} doesn't record its preprocessing; that of the {usual.source} weights was assumed.",)
    pretrained_on = tuple(part.strip() for part in metadata.get("pretrained_on", "not recorded").split(";"))
    return WeightsInfo(
        name=name,
        backbone=encoder.name,
        sha256=digest,
        mean=mean,
        std=std,
        batch_norm_folded=batch_norm_folded(encoder),
        pretrained_on=pretrained_on,
        licence=metadata.get("licence", "not recorded"),
        labels=metadata.get("labels", "not recorded"),
        notes=notes,
    )


def _numbers(text: str | None, name: str) -> tuple[float, ...] | None:
    if text is None:
        return None
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise WeightsError(f"{name} records mean or std as {text!r}; write numbers with commas between.") from error
