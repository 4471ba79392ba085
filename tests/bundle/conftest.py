"""One small bundle for all tests of the room."""

from pathlib import Path

import pytest
from tests.bundle.small import small_bundle

from hilum.bundle.reading import Bundle, read_bundle


@pytest.fixture(scope="session")
def bundle_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_bundle(tmp_path_factory.mktemp("bundle") / "small.hilum", files={"scorecard.json": b'{"auroc": 0.8}'})


@pytest.fixture(scope="session")
def bundle(bundle_path: Path) -> Bundle:
    return read_bundle(bundle_path)
