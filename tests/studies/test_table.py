"""The table of studies: every study has a header, budgets, a page; reading the table loads nothing heavy."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from hilum.errors import UsageError
from hilum.studies.table import STUDIES, Study, study

ROOT = Path(__file__).parents[2]
LABELS = ("Question", "Data", "Command", "Hardware", "Cost", "Seeds", "Expected")


@pytest.mark.parametrize("row", STUDIES, ids=lambda row: row.name)
def test_a_studys_file_begins_with_its_header(row: Study) -> None:
    """DESIGN §9.12: question, data, command, hardware, cost, seeds and the expected number."""
    source = (ROOT / "src" / "hilum" / "studies" / f"{row.module}.py").read_text()
    header = ast.get_docstring(ast.parse(source)) or ""
    missing = [label for label in LABELS if not re.search(rf"^{label}: \S", header, re.M)]
    assert not missing, f"{row.module} lacks {missing}"
    assert f"hilum study run {row.name}" in header


@pytest.mark.parametrize("row", STUDIES, ids=lambda row: row.name)
def test_a_study_can_be_run_at_every_budget_and_has_its_page(row: Study) -> None:
    module = row.load()
    assert tuple(module.SCALES) == ("quick", "standard", "full")
    assert callable(module.run)
    assert (ROOT / "docs" / "topics" / row.topic).is_file()


def test_names_and_pages_are_distinct() -> None:
    assert len({row.name for row in STUDIES}) == len({row.topic for row in STUDIES}) == len(STUDIES) == 9


def test_an_unknown_name_lists_the_nearest() -> None:
    with pytest.raises(
        UsageError, match=r"There is no study 'lenet'\. Did you mean 'lenet5'\? Known: cnn-vs-mlp, lenet5"
    ):
        study("lenet")


def test_listing_the_studies_loads_neither_torch_nor_numpy() -> None:
    code = "import sys, hilum.studies.table; print(sorted({'torch', 'numpy', 'matplotlib'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=240, check=True)
    assert done.stdout.strip() == "[]"
