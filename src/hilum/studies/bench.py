"""The bench that a study works at: its request, its images, its weights, and what has been used of them."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from hilum.config import canonical_json, fingerprint
from hilum.datasets.image_sets import open_image_set
from hilum.datasets.labelled_images import ImageSet
from hilum.errors import WeightsError
from hilum.files import replacing, write_json
from hilum.models.encoders import Encoder, build_encoder
from hilum.models.weights.loading import load_weights
from hilum.models.weights.registry import WeightsInfo
from hilum.models.zoo import architecture
from hilum.progress import Progress, Silent
from hilum.training.device import choose_device

Budget = Literal["quick", "standard", "full"]
"""How much is done: quick ends within five minutes on two CPU cores, standard uses the whole real set where a CPU can,
full is for a GPU."""

STAND_IN = "hilum_small"
"""The shipped encoder that ``--weights auto`` measures where a network's published weights can't be had."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What was asked for: all that decides a study's numbers, beside the data themselves."""

    study: str
    """Name in the table of studies."""
    budget: Budget = "quick"
    """How much is done."""
    seed: int = 0
    """Seed of all chance."""
    data: str = "auto"
    """``auto``, the name of a set, or a folder."""
    data_dir: str = ""
    """Root laid out as ``datasets.image_sets`` describes; empty for none."""
    weights: str = "auto"
    """``auto``, ``imagenet``, ``hilum``, ``none``, or a .safetensors file."""
    backbone: str = ""
    """Network of the zoo; empty for the study's own."""
    image: str = ""
    """A picture to explain; empty for the study's own."""
    device: str = "auto"
    """``auto`` (a GPU when there is one), ``cpu`` or ``cuda``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DataUsed:
    """What a report says of a set that was used."""

    name: str
    """Short name, such as ``mnist``."""
    title: str
    """Name for people."""
    kind: Literal["real", "embedded"]
    """Real, or embedded: it travels with the package or is made by procedure."""
    description: str
    """What it is, for the first line of the report."""
    source: str
    """Citation and licence."""
    notes: tuple[str, ...] = ()
    """What a reader should know besides."""
    train: int = 0
    """Images to train on."""
    test: int = 0
    """Images to test on."""
    fingerprint: str = ""
    """SHA-256 over pixels and labels."""

    @classmethod
    def of(cls, images: ImageSet) -> "DataUsed":
        """The facts of an image set."""
        return cls(
            name=images.name,
            title=images.title,
            kind=images.kind,
            description=images.description,
            source=images.source,
            notes=tuple(images.notes),
            train=len(images.train),
            test=len(images.test),
            fingerprint=images.fingerprint,
        )


@dataclass(slots=True, kw_only=True)
class Bench:
    """What a study is given. It remembers which sets and networks were used, for the report's first line."""

    request: Request
    """What was asked for."""
    parts: Path
    """Folder for what is finished inside an unfinished study."""
    cache: Path
    """Folder of decoded images and downloaded weights, shared between studies."""
    progress: Progress = field(default_factory=Silent)
    """Where progress goes."""
    download: bool = True
    """Whether data and weights may be downloaded."""
    sets: list[DataUsed] = field(default_factory=list)
    """Sets used, in order."""
    networks: list[str] = field(default_factory=list)
    """One sentence for each network measured: its name, and where its weights came from."""
    notes: list[str] = field(default_factory=list)
    """Sentences that must not be overlooked, such as a stand-in."""

    @property
    def budget(self) -> Budget:
        """How much is done."""
        return self.request.budget

    @property
    def seed(self) -> int:
        """Seed of all chance."""
        return self.request.seed

    @property
    def root(self) -> Path | None:
        """Root of the real data, if one was given."""
        return Path(self.request.data_dir) if self.request.data_dir else None

    @property
    def device(self) -> torch.device:
        """Where networks are computed.

        Raises:
            UsageError: a GPU was asked for and there is none.
        """
        return choose_device(self.request.device)

    def images(
        self,
        purpose: str,
        name: str | None = None,
        *,
        size: int | None = None,
        train: int | None = None,
        test: int | None = None,
    ) -> ImageSet:
        """An image set, real where it is to be had; the report's first line will name it.

        Args:
            purpose: what it is for; see :func:`open_image_set`.
            name: of the set; what ``--data`` says when None.
            size: pixels a side; the set's own when None.
            train: at most so many images to train on, alike for each class; all when None.
            test: the same for the test images.
        """
        chosen = open_image_set(
            purpose,
            self.request.data if name is None else name,
            root=self.root,
            size=size,
            train=train,
            test=test,
            seed=self.seed,
            download=self.download,
            cache=self.cache / "data",
            progress=self.progress,
        )
        self.use(chosen)
        return chosen

    def use(self, images: ImageSet | DataUsed) -> None:
        """Name a set in the report's first line."""
        if all(images.description != other.description for other in self.sets):
            self.sets.append(images if isinstance(images, DataUsed) else DataUsed.of(images))

    def measure(self, sentence: str) -> None:
        """Name a network in the report, such as ``LeNet-5 (modern form), random weights``."""
        if sentence not in self.networks:
            self.networks.append(sentence)

    def pretrained(self, backbone: str) -> tuple[str, str | Path]:
        """The network and the weights that can really be had for a pretrained backbone.

        With ``--weights auto``: a file below the data root's ``weights`` that begins with the network's name and fits;
        else the published weights, cached or downloaded; else the shipped encoder, which is then what is measured,
        and named. Any other choice is kept as it is, and fails when it can't be had.

        Args:
            backbone: the network wanted; ``--backbone`` goes before it.

        Returns:
            name in the zoo, and a source for :func:`load_weights`.

        Raises:
            WeightsError: the weights that were named can't be had.
        """
        name = self.request.backbone or backbone
        architecture(name)
        if self.request.weights != "auto":
            self._load(name, self.request.weights)
            return name, self.request.weights
        source, _ = self.own_weights(name)
        if source is not None:
            return name, source
        note = (
            f"The published weights of {name} can't be had here, so the shipped {STAND_IN} was measured in its place "
            "(--weights imagenet says where they are)."
        )
        if note not in self.notes:
            self.notes.append(note)
        self._load(STAND_IN, "hilum")
        return STAND_IN, "hilum"

    def own_weights(self, name: str) -> tuple[str | Path | None, tuple[str, ...]]:
        """Where ``--weights auto`` finds weights of exactly this network; no other network takes its place.

        Args:
            name: in the zoo.

        Returns:
            a source for :func:`load_weights`, or None; and why the sources before it can't serve, one sentence each.
        """
        reasons: list[str] = []
        sources: list[str | Path] = [*self._files(name), "imagenet", "hilum"]
        for source in sources:
            try:
                self._load(name, source)
            except WeightsError as error:
                reasons.append(str(error))
                continue
            return source, tuple(reasons)
        return None, tuple(reasons)

    def _files(self, name: str) -> list[Path]:
        folder = self.root / "weights" if self.root else None
        found = sorted(folder.glob(f"{name}*.safetensors")) if folder and folder.is_dir() else []
        # resnet18_… must not be taken for resnet18's longer-named relatives, nor squeezenet1_0 for squeezenet1_01.
        return [file for file in found if file.name[len(name)] in "_-."]

    def _load(self, name: str, source: str | Path) -> tuple[Encoder, WeightsInfo]:
        encoder = build_encoder(name, self.seed)
        cache = self.cache / "weights"
        info = load_weights(encoder, source, cache=cache, progress=self.progress, may_download=self.download)
        where = "random weights" if info.name == "none" else f"weights: {info.name}"
        self.measure(f"{name} ({where})")
        return encoder, info

    def encoder(self, backbone: str) -> tuple[Encoder, WeightsInfo]:
        """A pretrained encoder as :meth:`pretrained` finds it, in training mode."""
        return self._load(*self.pretrained(backbone))

    def once(self, name: str, settings: object, compute: Callable[[], Any], *, network: nn.Module | None = None) -> Any:
        """A part of the study that is not done again after a kill: plain JSON values, and a network's weights.

        Args:
            name: of the part.
            settings: all that decides its result beside the request, as JSON values or configs.
            compute: computes it; trains ``network`` in place.
            network: whose weights are kept with the values, and put back when the part was done before.

        Returns:
            what ``compute`` gave, as JSON gives it back.
        """
        key = fingerprint({"request": self.request, "name": name, "settings": json.loads(canonical_json(settings))})
        file = self.parts / f"{key[:24]}.json"
        weights = file.with_suffix(".safetensors")
        if file.exists() and (network is None or weights.exists()):
            if network is not None:
                network.load_state_dict(load_file(weights))
            return json.loads(file.read_text())["values"]
        values = compute()
        if network is not None:
            state = {key: value.detach().cpu().contiguous() for key, value in network.state_dict().items()}
            with replacing(weights) as temporary:
                save_file(state, temporary)
        write_json(file, {"name": name, "values": values})
        return json.loads(json.dumps(values))
