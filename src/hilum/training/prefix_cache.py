"""The frozen prefix of a network is never run twice on the same view of a film.

Outputs of the layers before a cut are computed once for each film × view, stored by :mod:`hilum.training.row_store`
in half or single precision, and read by row number. The key of a store holds the weights' hash, the cut, the
augmentation (view 0, the clean film, has none), the type, and what products were computed in; the key of a row holds
the film's pixels, hence its preprocessing, and the view's number. So folds and runs share what they have in common,
and nothing else.
"""

import contextlib
import hashlib
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import numpy as np
import torch
from torch import Tensor

from hilum.arrays import Array, Indices
from hilum.config import fingerprint
from hilum.errors import TrainingError, UsageError
from hilum.models.classifier import Classifier
from hilum.progress import Progress, Silent
from hilum.training.augmentation import Augmentation, make_views
from hilum.training.bf16 import Precision, Wanted, prefix_precision
from hilum.training.films import Films
from hilum.training.frozen import BLOCK, frozen_outputs, output_shapes, prefix_fingerprint
from hilum.training.prefetch import Ahead
from hilum.training.room import Promise, settling, sizes_to_come
from hilum.training.row_store import KEY_BYTES, MARK_BYTES, RowStore, evict, store_sizes, sweep

_RESIDENT_BYTES = 256 * 2**20
_TORCH = {"float16": torch.float16, "float32": torch.float32}


class PrefixOutputs:
    """Stored outputs for some films and views, ready to be gathered; close it when training is over.

    What is small stays in memory, on the device; else rows are read from the file as they are asked for, ahead of time
    when they are announced (:meth:`expect`).
    """

    def __init__(self, stores: Mapping[bool, RowStore], table: Array, device: torch.device) -> None:
        self._stores, self._table, self._device = stores, table, device
        self._rows = {clean: store.values() for clean, store in stores.items()}
        size = sum(int(np.prod(rows.shape)) for rows in self._rows.values()) * 4
        self._resident = {clean: self._load(clean) for clean in stores} if size <= _resident_bytes(device) else {}
        self._ahead = Ahead(self._read)

    def _load(self, clean: bool) -> Tensor:
        rows = self._rows[clean]
        return torch.from_numpy(rows.take(np.arange(len(rows)))).to(self._device, torch.float32)

    @property
    def resident(self) -> bool:
        """Whether all outputs are in memory."""
        return bool(self._resident)

    def expect(self, batches: Sequence[Tensor], view: int) -> None:
        """Say which rows will be asked for next, so that they are read in time."""
        if not self._resident:
            self._ahead.expect(batches, view)

    def __call__(self, rows: Tensor, view: int) -> Tensor:
        """Outputs for one view of the films of these rows.

        Returns:
            float32 maps [n, c, h, w] in channels_last, or vectors such as pooled features [n, c].

        Raises:
            TrainingError: a film whose view was not asked for when the outputs were opened.
        """
        if not self._resident:
            return self._ahead(rows, view)
        places = torch.from_numpy(self._places(rows, view)).to(self._device)
        return _channels_last(self._resident[view == 0].index_select(0, places))

    def _read(self, rows: Tensor, view: int) -> Tensor:
        places, stored = self._places(rows, view), self._rows[view == 0]
        staging = torch.empty((len(places), *stored.shape[1:]), dtype=_TORCH[stored.dtype.name])
        stored.take(places, out=staging.numpy())
        return _channels_last(staging.to(self._device, torch.float32))

    def _places(self, rows: Tensor, view: int) -> Indices:
        places: Indices = self._table[view][rows.cpu().numpy()] if view < len(self._table) else np.array([-1])
        if (places < 0).any():
            raise TrainingError(f"View {view} of a film is not in the prefix cache. Name it when opening the outputs.")
        return places

    def close(self) -> None:
        """Let the stores go."""
        self._ahead.close()
        for rows in self._rows.values():
            rows.close()
        self._rows.clear()
        for store in self._stores.values():
            store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class PrefixCache:
    """A folder of prefix outputs, shared by folds and runs.

    Args:
        folder: where stores are kept.
        store: ``fp16`` keeps 11 significant bits (relative error ≤ 2⁻¹¹) in half the space; ``fp32`` loses nothing.
        limit_gb: most space for all stores; the least recently used are removed to make room.
    """

    def __init__(
        self,
        folder: Path,
        *,
        store: Literal["fp16", "fp32"] = "fp16",
        limit_gb: float = 20.0,
    ) -> None:
        self.folder, self.store, self.limit_gb = Path(folder), store, limit_gb
        self._dtype: np.dtype[Any] = np.dtype(np.float16 if store == "fp16" else np.float32)
        self._checked: dict[Path, set[bytes]] = {}

    def kept_in(self, precision: Precision) -> str:
        """What outputs are computed and stored in, in words; trainings that differ in it are different ones."""
        return self.store if precision == "fp32" else f"{self.store}, computed in {precision}"

    def open(
        self,
        classifier: Classifier,
        cut: int,
        films: Films,
        wanted: Mapping[int, Indices],
        *,
        also: Iterable[int] = (),
        augmentation: Augmentation | None = None,
        seed: int = 0,
        precision: Wanted = "auto",
        progress: Progress | None = None,
    ) -> PrefixOutputs:
        """Outputs before a cut, computed where they are missing.

        Args:
            classifier: put into evaluation mode, in which its layers before the cut are run.
            cut: number of layers, ≥ 1.
            films: all films.
            wanted: rows by view.
            also: other cuts that will be asked for later, filled in the same pass through the network.
            augmentation: how views beside 0 are made; may be None when only view 0 is wanted.
            seed: of the views.
            precision: what the layers before the cuts are computed in (:mod:`hilum.training.bf16`).
            progress: shows what is computed.

        Raises:
            UsageError: nothing lies before the cut, or views without an augmentation.
            TrainingError: values too large for half precision, no room, or a folder that can't be written to.
        """
        cuts = sorted({cut, *also})
        if cuts[0] < 1:
            raise UsageError("A prefix cache needs one frozen layer at least, but the cut is 0. Train that stage live.")
        if augmentation is None and any(wanted):
            raise UsageError(f"Views {sorted(wanted)} need an augmentation. Give one, or ask for view 0 alone.")
        computed = prefix_precision(_device(classifier), precision)
        chosen: dict[bool, RowStore] = {}
        with contextlib.ExitStack() as opened:
            for clean in sorted({view == 0 for view in wanted}):
                views = "clean" if clean else f"{fingerprint(augmentation)} seed {seed}"
                keys = {
                    _key(films, view, int(row)): (view, int(row))
                    for view, rows in wanted.items()
                    if (view == 0) == clean
                    for row in rows
                }
                stores = self._stores(classifier, cuts, films, views, computed, keys)
                for store in stores.values():
                    opened.callback(store.close)
                views_of = augmentation or Augmentation()
                filling = _Filling(classifier, films, views_of, seed, computed, stores, self._promised)
                filling.fill(keys, progress)
                chosen[clean] = stores.pop(cut)
                for store in stores.values():  # filled for later; they are opened again when their stage comes
                    store.close()
            table = np.full((max(wanted, default=0) + 1, len(films)), -1, dtype=np.int64)
            for view, rows in wanted.items():
                table[view, rows] = chosen[view == 0].places([_key(films, view, int(row)) for row in rows])
            outputs = PrefixOutputs(chosen, table, _device(classifier))
            opened.pop_all()
        return outputs

    def _stores(
        self,
        classifier: Classifier,
        cuts: Sequence[int],
        films: Films,
        views: str,
        computed: Precision,
        keys: Iterable[bytes],
    ) -> dict[int, RowStore]:
        """An open store for each cut, with room for the keys that it lacks."""
        shapes = output_shapes(classifier, films.shape, cuts)
        stores: dict[int, RowStore] = {}
        with contextlib.ExitStack() as opened:
            for cut, (_, *shape) in zip(cuts, shapes, strict=True):
                # As they are computed and used: channels last.
                stored = (*shape[1:], shape[0]) if len(shape) == 3 else tuple(shape)
                identity = {
                    "weights": prefix_fingerprint(classifier, cut),
                    "cut": cut,
                    "views": views,
                    "device": _device(classifier).type,
                    "computed in": computed,
                }
                stores[cut] = self._roomy_store(identity, stored, keys)
                opened.callback(stores[cut].close)
            opened.pop_all()
        return stores

    def _roomy_store(self, identity: Mapping[str, Any], shape: tuple[int, ...], keys: Iterable[bytes]) -> RowStore:
        """The store of an identity, with room for the keys that it lacks."""
        for _ in ("as it is", "emptied of what is not wanted now"):
            store = RowStore(self.folder, identity, shape, self._dtype)
            self._check(store, keys)
            needed = _growth(store, keys)
            with settling(self.folder):
                lacking = self._make_room({store.folder: needed})
            if not lacking:
                return store
            store.close()
            evict(store.folder)
        raise _too_little(needed, lacking)

    @contextlib.contextmanager
    def _promised(self, needed: Mapping[Path, int]) -> Iterator[None]:
        """A block in which open stores may grow by so many bytes, whoever else looks for room meanwhile."""
        with settling(self.folder), contextlib.ExitStack() as kept:
            lacking = self._make_room(needed)
            if lacking:
                raise _too_little(sum(needed.values()), lacking)
            sizes = store_sizes(self.folder)
            for folder, more in needed.items():
                kept.callback(Promise(folder, sizes[folder] + more).close)
            promises = kept.pop_all()
        with promises:
            yield

    def _check(self, store: RowStore, keys: Iterable[bytes]) -> None:
        """Forget damaged rows, so that they are computed anew; each row is read once in this cache's life."""
        checked = self._checked.setdefault(store.folder, set())
        fresh = [key for key in keys if key not in checked]
        store.check(fresh)
        checked.update(fresh)

    def _make_room(self, needed: Mapping[Path, int]) -> str:
        """Remove the least recently used stores until what open ones need fits; a clause that says why it doesn't."""
        wanted = sum(needed.values())
        if not wanted:
            return ""
        sweep(self.folder)
        sizes = sizes_to_come(self.folder)

        def lacking() -> str:
            if sum(coming for _, coming in sizes.values()) + wanted > self.limit_gb * 1e9:
                return f"may hold {self.limit_gb:g} GB with all that is in use."
            free = shutil.disk_usage(self.folder).free - sum(coming - there for there, coming in sizes.values())
            return f"its disk has {max(free, 0) / 1e9:.2g} GB free at {self.folder}." if wanted > free else ""

        for folder in [folder for folder in sizes if folder not in needed]:
            if lacking() and evict(folder):
                del sizes[folder]
        return lacking()


def _too_little(needed: int, lacking: str) -> TrainingError:
    return TrainingError(
        f"The prefix cache needs {needed / 1e9:.2g} GB, but {lacking} "
        "Raise its limit, take fewer views, or train from a later layer."
    )


@dataclass(frozen=True, slots=True)
class _Filling:
    """Computes what some stores, one a cut, lack of the same views."""

    classifier: Classifier
    films: Films
    augmentation: Augmentation
    seed: int
    precision: Precision
    stores: Mapping[int, RowStore]
    promised: Callable[[Mapping[Path, int]], contextlib.AbstractContextManager[None]]

    def fill(self, keys: Mapping[bytes, tuple[int, int]], progress: Progress | None) -> None:
        """Compute what is missing of the keys' (view, row) pairs, block by block; each block is durable at once."""
        if not self._missing(keys):
            return
        with contextlib.ExitStack() as writing:
            for store in sorted(self.stores.values(), key=lambda store: store.folder):  # one order: no deadlock
                writing.enter_context(store.writing())
            missing = self._missing(keys)
            writing.enter_context(self.promised({store.folder: _growth(store, keys) for store in self.stores.values()}))
            bar = writing.enter_context((progress or Silent()).bar(self._what(), len(missing)))
            for view in sorted({keys[key][0] for key in missing}):
                ours = [key for key in missing if keys[key][0] == view]
                for block in (ours[i : i + BLOCK] for i in range(0, len(ours), BLOCK)):
                    self._add(block, [keys[key][1] for key in block], view)
                    bar.advance(len(block), f"view {view}")

    def _what(self) -> str:
        return f"frozen layers, once a view{'' if self.precision == 'fp32' else f' (in {self.precision})'}"

    def _missing(self, keys: Iterable[bytes]) -> list[bytes]:
        return [key for key in keys if any(key not in store for store in self.stores.values())]

    def _add(self, block: Sequence[bytes], rows: Sequence[int], view: int) -> None:
        """Run one block through the frozen layers, and append what each store lacks."""
        lacking = {cut: [i for i, key in enumerate(block) if key not in store] for cut, store in self.stores.items()}
        cuts = [cut for cut, places in lacking.items() if places]
        picked = torch.tensor(rows, device=_device(self.classifier))
        views = make_views(
            self.films.take(picked), self.films.ids(picked), view, config=self.augmentation, seed=self.seed
        )
        found = frozen_outputs(self.classifier, views, cuts, self.precision)
        for cut, outputs in zip(cuts, found, strict=True):
            rows_last = outputs.permute(0, 2, 3, 1) if outputs.ndim == 4 else outputs
            stored = _narrow(rows_last[lacking[cut]], self.stores[cut].dtype)
            self.stores[cut].append([block[i] for i in lacking[cut]], stored)


def _growth(store: RowStore, keys: Iterable[bytes]) -> int:
    """Bytes that a store grows by when it gets the keys that it lacks."""
    return sum(key not in store for key in keys) * (store.row_bytes + MARK_BYTES)


def _narrow(outputs: Tensor, dtype: np.dtype[Any]) -> Array:
    """Outputs in the store's type.

    Raises:
        TrainingError: a value that the type can't hold, or that is not a finite number.
    """
    largest = float(outputs.abs().max())
    if not largest <= float(np.finfo(dtype).max):
        raise TrainingError(
            f"An output of the frozen layers is {largest:.3g}, beyond what the {dtype.name} store holds. "
            "Use store='fp32'; if it is not a finite number, check the weights."
        )
    return outputs.cpu().numpy().astype(dtype)


def _resident_bytes(device: torch.device) -> int:
    """Outputs up to this size stay in memory; on a GPU up to a quarter of what is free there."""
    return torch.cuda.mem_get_info(device)[0] // 4 if device.type == "cuda" else _RESIDENT_BYTES


def _channels_last(found: Tensor) -> Tensor:
    return found.permute(0, 3, 1, 2) if found.ndim == 4 else found


def _key(films: Films, view: int, row: int) -> bytes:
    return hashlib.blake2b(films.digest(row) + view.to_bytes(8, "little"), digest_size=KEY_BYTES).digest()


def _device(classifier: Classifier) -> torch.device:
    return next(classifier.parameters()).device
