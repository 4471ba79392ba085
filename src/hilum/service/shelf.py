"""Bundles that the service may use: copies of its own, by digest, so that nobody exchanges one while it answers."""

import contextlib
import os
import re
import shutil
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path

from hilum.bundle.archive import SUFFIX
from hilum.bundle.card import CARD_JSON_MEMBER, ModelCard, read_card
from hilum.bundle.reading import Bundle, read_bundle
from hilum.errors import BundleError, ServiceError
from hilum.files import sync_directory, sync_tree
from hilum.keys import PublicKey

DIGEST = re.compile(r"[0-9a-f]{64}")


class Shelf:
    """A folder of verified bundles.

    Args:
        folder: made when absent.
        trusted: public keys of which one must have signed a bundle; empty when no signature is required.
    """

    def __init__(self, folder: Path, trusted: Sequence[PublicKey] = ()) -> None:
        self._folder, self._trusted = folder, trusted
        self._cards: dict[str, ModelCard | None] = {}
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for left_over in folder.glob(".*"):
            _remove(left_over)

    def path(self, sha256: str) -> Path:
        """Where a bundle lies, if it is there."""
        return self._folder / f"{sha256}{SUFFIX}"

    def has(self, sha256: str) -> bool:
        """Whether it is there."""
        return bool(DIGEST.fullmatch(sha256)) and self.path(sha256).exists()

    def open(self, sha256: str) -> Bundle:
        """Read and verify a bundle that is here.

        Raises:
            BundleError: it isn't, it was changed, or nobody trusted signed it.
        """
        if not self.has(sha256):
            raise BundleError(f"No bundle {sha256[:12]} is here. Send it first: POST /api/v1/models.")
        bundle = read_bundle(self.path(sha256), trusted=self._trusted)
        if bundle.sha256 != sha256:
            raise BundleError(f"The bundle kept as {sha256[:12]} is {bundle.sha256[:12]}. Send the right one again.")
        return bundle

    def card(self, sha256: str) -> ModelCard | None:
        """What a bundle here says of itself, read once; None when it isn't here, was changed or has no card."""
        if sha256 not in self._cards:
            try:
                content = self.open(sha256).contents.get(CARD_JSON_MEMBER, b"")
                self._cards[sha256] = read_card(content, CARD_JSON_MEMBER) if content else None
            except BundleError:
                return None
        return self._cards[sha256]

    def put(self, source: Path) -> Bundle:
        """Verify a bundle and keep a copy; what is kept is what was verified.

        Raises:
            BundleError: it can't be trusted; nothing is kept.
            ServiceError: the disk can't take it.
        """
        bundle = read_bundle(source, trusted=self._trusted)
        if self.has(bundle.sha256):  # whoever loads the copy finds out whether it has this digest still
            return bundle
        with self.arriving() as copy:
            try:
                if source.is_dir():
                    shutil.copytree(source, copy)
                else:
                    shutil.copyfile(source, copy)
            except OSError as error:
                raise ServiceError(f"The bundle can't be kept ({error.strerror}). Check the disk.") from None
            return self.take(copy)

    @contextlib.contextmanager
    def arriving(self) -> Iterator[Path]:
        """A path beside the others for a bundle that is written now; what is not taken is removed."""
        copy = self._folder / f".{uuid.uuid4().hex}{SUFFIX}"
        try:
            yield copy
        finally:
            _remove(copy)

    def take(self, copy: Path) -> Bundle:
        """Verify what was written at an arriving path and keep it under its digest.

        Raises:
            BundleError: it can't be trusted; nothing is kept.
        """
        bundle = read_bundle(copy, trusted=self._trusted)
        target = self.path(bundle.sha256)
        if target.exists():
            return bundle
        if copy.is_dir():
            sync_tree(copy)
        else:
            with open(copy, "rb") as handle:
                os.fsync(handle.fileno())
        os.replace(copy, target)
        sync_directory(self._folder)
        return bundle


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
