"""What threads import lazily of pydicom and pynetdicom is there before there are threads."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import hilum.service

SERVICE = Path(hilum.service.__file__).parent
IN_CHILDREN = {"report.py", "capture.py", "source_film.py", "film_header.py"}
"""These run in sandboxed children, which have one thread."""

PROGRAM = """
import sys
from pathlib import Path
from hilum.service.answering import Model
from hilum.service.reading_room import open_reading_room
from hilum.service.settings import read_settings

class Silent:
    model, trouble = Model(sha256="5" * 64, name="silent", version="1", findings=("normal",)), None
    prepare = answer = None

assert not any(name.split(".")[0] in ("pydicom", "pynetdicom") for name in sys.modules)
data = Path(sys.argv[1])
settings = read_settings(bundle=data / "none", data=data, port=0, without_dicom=True)
with open_reading_room(settings, answering=Silent(), drawing=Silent()):
    print(*sys.modules)
"""


def imported_within_functions(path: Path) -> set[str]:
    """Modules of the two libraries that a file imports when its functions run."""
    found = set()
    for outer in ast.walk(ast.parse(path.read_text())):
        if isinstance(outer, ast.FunctionDef):
            for node in ast.walk(outer):
                if isinstance(node, ast.ImportFrom) and node.module:
                    found.add(node.module)
                elif isinstance(node, ast.Import):
                    found.update(alias.name for alias in node.names)
    return {name for name in found if name.split(".")[0] in ("pydicom", "pynetdicom")}


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """The modules of a service that has just started."""
    said = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path_factory.mktemp("loading") / "data")],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    return set(said.stdout.split())


def test_no_thread_of_the_service_is_the_first_to_import_pydicom_or_pynetdicom(loaded: set[str]) -> None:
    """Two that import them at the same instant may break them for the rest of the process's life."""
    files = [path for path in SERVICE.rglob("*.py") if path.name not in IN_CHILDREN]
    wanted = set().union(*(imported_within_functions(path) for path in files))
    assert {"pydicom.dataset", "pynetdicom.presentation"} <= wanted, "or there is nothing to look at any more"
    assert wanted - loaded == set()


def test_a_service_starts_without_what_only_its_children_need(loaded: set[str]) -> None:
    """A film is read and measured in a sandbox, whose children import that before their limits count."""
    assert {"hilum.imaging.lungs", "scipy.ndimage", "onnxruntime", "matplotlib"} & loaded == set()
