"""A running service on free ports, with the smallest real model."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from tests.service.small import SmallDrawing, SmallModel

from hilum.service.app import Running, running
from hilum.service.settings import Settings, read_settings


def settings_in(folder: Path, **changes: object) -> Settings:
    """Without a DICOM listener, whose process costs half a second, unless a port is given."""
    values = {"bundle": folder / "none.hilum", "data": folder / "data", "port": 0, "least_free_mb": 1, "drain_s": 5}
    given = {**values, "dicom_port": None, **changes}
    # None is "not given" to read_settings, and would be port 11112 in every test at once.
    return read_settings(without_dicom=given["dicom_port"] is None, **given)


def let_in(service: Running, *roles: str) -> dict[str, str]:
    """Headers of a new user with these roles; a key, so no password is hashed."""
    access, roles = service.room.access, roles or ("reviewer",)
    name = "test-" + "-".join(roles)
    if name not in [user.name for user in access.users()]:
        access.add_user(name, roles, password=None, actor="test")
    return {"Authorization": f"Bearer {access.add_key(name, actor='test')[1]}"}


@pytest.fixture(scope="module")
def model() -> SmallModel:
    return SmallModel()


@pytest.fixture(scope="module")
def service(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, model: SmallModel
) -> Iterator[Running]:
    """With a DICOM listener where the module says ``DICOM_PORT = 0``."""
    port = getattr(request.module, "DICOM_PORT", None)
    settings = settings_in(tmp_path_factory.mktemp("service"), largest_film_mb=1, dicom_port=port)
    with running(settings, answering=model, drawing=SmallDrawing()) as started:
        yield started


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[Running]:
    """For a test that must find nothing of the others': they may run in any order, and in several workers."""
    with running(settings_in(tmp_path / "alone"), answering=SmallModel(), drawing=SmallDrawing()) as started:
        yield started


@pytest.fixture
def http(service: Running) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=service.url, timeout=90, headers=let_in(service)) as client:
        yield client
