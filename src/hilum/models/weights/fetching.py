"""Published weights: downloaded once, checked by hash, converted to safetensors, kept in a cache folder."""

import json
import re
import tempfile
from pathlib import Path
from typing import Any

import httpx
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from hilum.errors import WeightsError
from hilum.files import write_bytes, write_json
from hilum.progress import Progress
from hilum.provenance import sha256_bytes, sha256_file

HASH_IN_NAME = re.compile(r"-([0-9a-f]{8,64})\.(?:pth|pt|safetensors)$")
"""torchvision's convention: the first digits of the file's SHA-256 end its name."""

CHUNK = 1 << 18
TIMEOUT_S = 30.0


def published_url(entry: str) -> str:
    """URL of published weights, as torchvision knows it.

    Args:
        entry: such as ``ResNet18_Weights.IMAGENET1K_V1``.
    """
    from torchvision.models import get_weight

    return str(get_weight(entry).url)


def fetch_published(
    url: str, cache: Path, *, backbone: str, progress: Progress, may_download: bool = True
) -> tuple[dict[str, Tensor], str]:
    """Published weights from the cache, or downloaded into it.

    Args:
        url: where they are published; the file's name ends with the first digits of its SHA-256.
        cache: folder to keep them in, as ``<name>.safetensors`` and ``<name>.json`` (URL and hashes).
        backbone: the network they are for, for messages.
        progress: where the download reports to.
        may_download: whether to go beyond the cache.

    Returns:
        the tensors by key, and the SHA-256 of the published file.

    Raises:
        WeightsError: the download failed or is switched off, or the file is not the published one.
    """
    stem = Path(httpx.URL(url).path).stem
    kept, facts_file = cache / f"{stem}.safetensors", cache / f"{stem}.json"
    facts = _facts(facts_file)
    if kept.is_file() and facts.get("url") == url and facts.get("safetensors_sha256") == sha256_file(kept):
        return load_file(kept), str(facts["sha256"])
    if not may_download:
        raise WeightsError(
            f"Published weights of {backbone} are not in {cache}, and downloads are switched off. {_mend(url)}"
        )
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / Path(httpx.URL(url).path).name
        _download(url, file, backbone=backbone, progress=progress)
        digest = _check_hash(file, f"downloaded from {url}")
        tensors = read_tensors(file)
    content = save(tensors)
    write_bytes(kept, content)
    write_json(facts_file, {"url": url, "sha256": digest, "safetensors_sha256": sha256_bytes(content)})
    return tensors, digest


def read_file(file: Path) -> tuple[dict[str, Tensor], dict[str, str], str]:
    """Tensors, metadata and SHA-256 of a weights file that a person names.

    Args:
        file: .safetensors; or torchvision's .pth, which is read with torch's restricted unpickler.

    Raises:
        WeightsError: the file is missing, of another kind, damaged, or not what its name promises.
    """
    if not file.is_file():
        raise WeightsError(f"Weights file {file} does not exist. Give a .safetensors file, imagenet, hilum or none.")
    if file.suffix not in (".safetensors", ".pth", ".pt"):
        raise WeightsError(f"Weights file {file} is not a .safetensors file. Convert it first.")
    digest = sha256_file(file) if file.suffix == ".safetensors" else _check_hash(file, "given")
    return read_tensors(file), _metadata(file), digest


def read_tensors(file: Path) -> dict[str, Tensor]:
    """Tensors of a .safetensors or .pth file, by key.

    Raises:
        WeightsError: the file is damaged or holds something else than tensors.
    """
    try:
        loaded: Any = load_file(file) if file.suffix == ".safetensors" else _load_pickled(file)
    except (SafetensorError, RuntimeError, ValueError, EOFError, OSError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise WeightsError(f"Weights file {file.name} can't be read ({reason}). Get it anew.") from error
    if not isinstance(loaded, dict) or not all(isinstance(value, Tensor) for value in loaded.values()):
        raise WeightsError(f"Weights file {file.name} holds no table of tensors. Save the network's state dict.")
    return {str(key): value.contiguous() for key, value in loaded.items()}


def _load_pickled(file: Path) -> Any:
    try:
        return torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file makes the restricted unpickler raise errors of many kinds
        raise ValueError(error) from error


def _metadata(file: Path) -> dict[str, str]:
    if file.suffix != ".safetensors":
        return {}
    with open(file, "rb") as handle:
        header = json.loads(handle.read(int.from_bytes(handle.read(8), "little")))
    return dict(header.get("__metadata__", {}))


def _facts(file: Path) -> dict[str, Any]:
    try:
        facts: dict[str, Any] = json.loads(file.read_text())
    except (OSError, ValueError):
        return {}
    return facts


def _download(url: str, file: Path, *, backbone: str, progress: Progress) -> None:
    try:
        with httpx.stream("GET", url, follow_redirects=True, timeout=TIMEOUT_S) as answer, open(file, "wb") as out:
            answer.raise_for_status()
            total = int(answer.headers.get("content-length", 0))
            with progress.bar(f"weights of {backbone}", total / 1e6 or None) as bar:
                for chunk in answer.iter_bytes(CHUNK):
                    out.write(chunk)
                    bar.advance(len(chunk) / 1e6, "MB")
    except httpx.HTTPError as error:
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise WeightsError(f"Published weights of {backbone} can't be downloaded: {reason}. {_mend(url)}") from error


def _mend(url: str) -> str:
    expected = HASH_IN_NAME.search(url)
    digest = f" (SHA-256 begins with {expected[1]})" if expected else ""
    return f"Fetch {url}{digest} where there is a network, and pass the file with --weights FILE."


def _check_hash(file: Path, how: str) -> str:
    digest = sha256_file(file)
    expected = HASH_IN_NAME.search(file.name)
    if expected and not digest.startswith(expected[1]):
        raise WeightsError(
            f"Weights file {file.name}, {how}, has SHA-256 {digest[:16]}…, but its name promises {expected[1]}…. "
            "It is damaged or was replaced; get it anew."
        )
    return digest
