"""The reading room has no torch: its modules import where torch can't be had at all."""

import subprocess
import sys
from pathlib import Path

SOURCE = Path(__file__).parents[2] / "src"
READING_ROOM = ("service", "monitoring", "change", "client", "records")
READING_ROOM += ("inference", "bundle", "evaluation", "datasets", "imaging")
BLOCKED = ("torch", "torchvision", "onnx", "captum", "matplotlib", "sklearn", "safetensors")

BLOCK_AND_IMPORT = """
import importlib, sys, warnings
warnings.simplefilter("ignore")
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {blocked!r}:
            raise ModuleNotFoundError(f"blocked for this test: {{name}}")
sys.meta_path.insert(0, Block())
for name in {modules!r}:
    importlib.import_module(name)
print("imported", len({modules!r}))
"""


def modules_of(rooms: tuple[str, ...]) -> list[str]:
    paths = [p for room in rooms for p in (SOURCE / "hilum" / room).rglob("*.py")]
    dotted = [".".join(p.relative_to(SOURCE).with_suffix("").parts) for p in paths]
    migrations = "hilum.records.migrations"  # run by alembic inside its own context, not importable by themselves
    return sorted(d.removesuffix(".__init__") for d in dotted if not d.startswith(migrations))


def test_every_reading_room_module_imports_without_the_train_extra() -> None:
    modules = modules_of(READING_ROOM)
    code = BLOCK_AND_IMPORT.format(blocked=set(BLOCKED), modules=modules)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == f"imported {len(modules)}"


def test_the_blocker_really_blocks() -> None:
    code = BLOCK_AND_IMPORT.format(blocked=set(BLOCKED), modules=["torch"])
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=240, check=False)
    assert "blocked for this test: torch" in done.stderr


def test_import_hilum_loads_nothing_heavy() -> None:
    code = "import sys, hilum; print(sorted({'torch','numpy','pydicom','fastapi'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=240, check=True)
    assert done.stdout.strip() == "[]"


def test_environment_is_read_in_two_places_only() -> None:
    allowed = {SOURCE / "hilum" / "service" / "settings.py"} | set((SOURCE / "hilum" / "cli").rglob("*.py"))
    for path in set(SOURCE.rglob("*.py")) - allowed:
        text = path.read_text()
        assert "os.environ" not in text, path
        assert "getenv" not in text, path
