"""What every test may use: real data where it is to be had; in CI nothing is skipped for want of a component."""

import os
import random
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

# Workers share the cores: the second thread of one only turns while the other has its core. Before NumPy is loaded.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ["OMP_NUM_THREADS"] = "1"

# In an environment that is activated, pynetdicom's programs go before DCMTK's, whose names they have.
own = str(Path(sys.executable).parent)
os.environ["PATH"] = os.pathsep.join(one for one in os.environ.get("PATH", "").split(os.pathsep) if one != own)

ROOT = Path(__file__).parents[1]
SHARED_DATA = Path(os.environ.get("HILUM_TEST_DATA", ROOT.parent / "shared" / "data"))


def require(condition: object, what: str) -> None:
    """Skip where a component is missing; where CI=true, fail: CI installs what the tests need."""
    if condition:
        return
    if os.environ.get("CI") == "true":
        pytest.fail(f"CI must provide it: {what}")
    pytest.skip(f"missing here: {what}")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """Each test draws the same numbers, whichever others its worker ran before: none passes or fails by luck."""
    random.seed(0)
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed(0)
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(0)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--share", type=float, default=1.0, help="share of the long counts that is tried, 0 … 1")


@pytest.fixture
def counted(request: pytest.FixtureRequest) -> Callable[[int], int]:
    """``counted(5_000)``: so many, or the share of it that ``make test-long ARGS="--share 0.1"`` asks for."""
    share = float(request.config.getoption("--share"))
    return lambda full: max(1, round(full * share))


@pytest.fixture(autouse=True, scope="session")
def _cheap_passwords() -> Iterator[None]:
    """Hashes that cost a thousandth: what they cost in service is tested by itself."""
    from hilum.records import passwords

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(passwords, "COST", (1, 8, 1))
        yield


@pytest.fixture
def need() -> Callable[[object, str], None]:
    """``need(condition, what)``: go on, or skip with a reason (in CI: fail)."""
    return require


@pytest.fixture
def shared_data() -> Path:
    """The folder of real data sets; a test that uses it is skipped with a reason where it is absent."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"no real data at {SHARED_DATA} (set HILUM_TEST_DATA)")
    return SHARED_DATA
