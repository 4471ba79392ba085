"""docs/benchmarks.md, from numbers that are kept in docs/measured-benchmarks; measuring first what is asked for.

python benchmarks/compose.py                      the page from what is kept
python benchmarks/compose.py --measure lenet5     measure first (several names, or all: hours); kept numbers go
python benchmarks/compose.py --check              say whether the page is current

No number on the page is typed by hand: each section is what its script writes with ``--from``.
"""

import argparse
import importlib
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parent
PAGE = ROOT / "docs" / "benchmarks.md"
KEPT = ROOT / "docs" / "measured-benchmarks"


@dataclass(frozen=True, kw_only=True)
class Part:
    """A section of the page: what a script measured, on one kind of machine where there are several."""

    script: str
    title: str
    machine: str = ""
    by_name: bool = False
    """Measured only where it is named: it needs what most machines lack."""

    @property
    def name(self) -> str:
        """What it is called at ``--measure``, and the file of its kept numbers."""
        return "_".join(filter(None, (self.script, self.machine)))


PARTS = (
    Part(script="two_stage", title="Two-stage transfer on chest films"),
    Part(script="two_stage", machine="avx512", title="Two-stage transfer where bf16 gains nothing", by_name=True),
    Part(script="same_accuracy", title="Accuracy of the cached path"),
    Part(script="prefix_views", title="Fixed views and fresh ones"),
    Part(script="lenet5", title="LeNet-5 on MNIST"),
    Part(script="engine_overhead", title="The engine beside bare steps"),
    Part(script="adding_data", title="Adding data"),
    Part(script="manifest_rows", title="A table of a million rows"),
    Part(script="bootstrap", title="Intervals"),
    Part(script="full_report", title="A report on 100,000 cases"),
    Part(script="one_pass", title="One pass that answers everything"),
    Part(script="predict_scale", title="Many films"),
    Part(script="service", title="Waiting"),
    Part(script="viewer", title="At the page"),
    Part(script="storescp", title="Films in over DICOM"),
    Part(script="film_on_disk", title="A film on its way to the disk"),
    Part(script="service_load", title="The service under load"),
    Part(script="service_load", machine="xeon", title="The service under load on a Xeon", by_name=True),
    Part(script="gpu_answers", title="On a GPU", by_name=True),
    Part(script="googlenet_gpu", title="GoogLeNet on a GPU", by_name=True),
    Part(script="monitor_report", title="Watching a million answers"),
    Part(script="observing", title="Watching beside answering"),
    Part(script="phantom_difficulty", title="A linear model on 32 × 32 pixels of the demo films"),
)
"""Sections in the page's order."""

ASKS = {"--keras-python": "two_stage", "--fastai-python": "two_stage", "--litserve-python": "service_load"}
"""Which script each option is for."""

OPENING = (
    "# Benchmarks\n\nMade by `make bench`, from the raw numbers in `docs/measured-benchmarks`; what is compared ran "
    "side by side in one run. Each section names its machine and its command. Medians, with the smallest and the "
    "largest.\n"
)


def section(part: Part) -> str:
    """A part's section, from its kept numbers; how to measure them where there are none."""
    kept = KEPT / f"{part.name}.json"
    if not kept.exists():
        return f"\n## {part.title}\n\nNot measured yet: `make bench MEASURE={part.name}`.\n"
    measured = json.loads(kept.read_text())
    if measured["smoke"]:
        sys.exit(f"{kept} is of a smoke run, whose numbers mean nothing. Measure again without --smoke.")
    text: str = importlib.import_module(part.script).write(measured)
    return f"\n## {part.title}\n\n{text.rstrip()}\n"


def page() -> str:
    return OPENING + "".join(section(part) for part in PARTS)


def measure(part: Part, python: dict[str, str]) -> None:
    """Run a script; its numbers are kept."""
    KEPT.mkdir(exist_ok=True)
    command = [sys.executable, f"benchmarks/{part.script}.py", "--json", str(KEPT / f"{part.name}.json")]
    others = [word for name, path in python.items() if part.script == ASKS[name] and path for word in (name, path)]
    subprocess.run([*command, *others], cwd=ROOT, check=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = [part.name for part in PARTS]
    parser.add_argument("--measure", nargs="*", choices=[*names, "all"], default=[])
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--keras-python", default="", help="interpreter that has Keras 3, for two_stage")
    parser.add_argument("--litserve-python", default="", help="interpreter that has litserve, for service_load")
    parser.add_argument("--fastai-python", default="", help="interpreter that has fastai, for two_stage")
    options = parser.parse_args()
    if options.check:
        if PAGE.read_text() != page():
            sys.exit("docs/benchmarks.md is not what docs/measured-benchmarks says. Run: python benchmarks/compose.py")
        return
    python = {name: getattr(options, name[2:].replace("-", "_")) for name in ASKS}
    for part in PARTS:
        if part.name in options.measure or ("all" in options.measure and not part.by_name):
            measure(part, python)
    PAGE.write_text(page())


if __name__ == "__main__":
    main()
