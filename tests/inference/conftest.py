"""One small bundle, opened once, and small synthetic films."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.bundle.small import small_bundle

from hilum.imaging.sandbox import Sandbox
from hilum.inference.assess import Assessor, open_bundle
from hilum.inference.predict import PRELOAD, WALL_S


@pytest.fixture(scope="session")
def bundle_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_bundle(tmp_path_factory.mktemp("bundle") / "small.hilum")


@pytest.fixture(scope="session")
def assessor(bundle_path: Path) -> Iterator[Assessor]:
    with open_bundle(bundle_path, 1) as opened:
        yield opened


@pytest.fixture(scope="session")
def sandbox() -> Iterator[Sandbox]:
    """One child for all tests: starting it takes longer than they do."""
    with Sandbox(1, wall_s=WALL_S, preload=PRELOAD) as opened:
        yield opened
