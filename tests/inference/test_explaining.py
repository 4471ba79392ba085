"""Why: three ways to ask, one scale for all films, what can't be asked said by name, and a page that holds it all."""

import base64
import io
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.inference.films import film, lateral
from typer.testing import CliRunner

from hilum.cli.verbs import app
from hilum.errors import DataError, UsageError
from hilum.imaging.sandbox import Sandbox
from hilum.inference import explaining
from hilum.inference.assess import Assessor
from hilum.inference.explaining import GRAD_CAM, GRADIENTS, OCCLUSION, Explained, Refused, Shares, explain_films
from hilum.inference.explanation_page import write_page
from hilum.inference.predict import FilmFile


def films_in(folder: Path, **contents: bytes) -> list[FilmFile]:
    for name, content in contents.items():
        (folder / f"{name}.dcm").write_bytes(content)
    return [FilmFile(name=f"{name}.dcm", path=folder / f"{name}.dcm") for name in contents]


def shares(tile: np.ndarray, column: int) -> Shares:
    """Stands in for the network's gradients: brightness, in proportion to the column."""
    return Shares(values=tile.astype(np.float32) / 1e5 * (column + 1), difference=1.0)


@pytest.fixture(scope="module")
def asked(
    assessor: Assessor, sandbox: Sandbox, tmp_path_factory: pytest.TempPathFactory
) -> tuple[list[Explained], list[Refused]]:
    folder = tmp_path_factory.mktemp("films")
    films = films_in(folder, one=film(1), side=lateral(2), two=film(3), bad=b"no film")
    films.append(FilmFile(name="none.dcm", path=folder / "none.dcm"))
    return explain_films(assessor, films, gradients=shares, sandbox=sandbox)


def test_what_can_be_asked_is_asked_and_the_rest_is_named(asked: tuple[list[Explained], list[Refused]]) -> None:
    explained, refused = asked
    assert [one.name for one in explained] == ["one.dcm", "two.dcm"]
    assert {one.name for one in refused} == {"side.dcm", "bad.dcm", "none.dcm"}
    reasons = {one.name: one.reason for one in refused}
    assert "or no plain file" in reasons["none.dcm"]
    assert all(reasons.values())
    assert all(list(one.maps) == [GRAD_CAM, OCCLUSION, GRADIENTS] for one in explained)
    assert all(one.finding == one.assessment.top_abnormal for one in explained)


def test_a_methods_scale_is_the_same_for_all_films(
    asked: tuple[list[Explained], list[Refused]], assessor: Assessor
) -> None:
    explained, _ = asked
    for method in (GRAD_CAM, OCCLUSION, GRADIENTS):
        assert len({one.maps[method].top for one in explained}) == 1
    assert explained[0].maps[GRAD_CAM].top == assessor.info.heatmap_top
    both = np.concatenate([one.maps[OCCLUSION].values.ravel() for one in explained])
    assert explained[0].maps[OCCLUSION].top == pytest.approx(np.percentile(both, 99.5))


def test_occlusion_is_that_of_the_graphs_own_logits(
    asked: tuple[list[Explained], list[Refused]], assessor: Assessor
) -> None:
    """One square by hand: the top left one is the only one over the corner pixel."""
    one = asked[0][0]
    tile, column = one.assessment.tile, assessor.info.findings.index(one.finding)
    side = tile.shape[0] // explaining.SQUARES_ACROSS
    hidden = tile.copy()
    hidden[:side, :side] = np.uint8(np.median(tile))
    logits = assessor.runtime.run(np.stack([tile, hidden])[:, None]).logits[:, column]
    assert one.maps[OCCLUSION].values[0, 0] == pytest.approx(max(0.0, logits[0] - logits[1]), abs=1e-5)


def test_pixels_are_summed_into_cells_without_loss() -> None:
    values = np.arange(63 * 64, dtype=np.float32).reshape(63, 64)
    summed = explaining._summed(values)
    assert summed.shape == (28, 28)
    assert summed.sum() == pytest.approx(values.sum())
    assert summed[0, 0] == values[:3, :3].sum()  # 63 rows make seven cells of three rows first, 64 columns eight
    np.testing.assert_array_equal(explaining._summed(values[:5, :5]), values[:5, :5])


def test_agreement_is_the_rank_correlation_of_coarse_maps(asked: tuple[list[Explained], list[Refused]]) -> None:
    first = asked[0][0].maps[GRAD_CAM]
    ramp = np.arange(16, dtype=np.float32).reshape(4, 4)
    fine = np.kron(ramp**3, np.ones((2, 2), np.float32))
    maps = {"a": replace(first, values=ramp), "b": replace(first, values=fine), "c": replace(first, values=-ramp)}
    found = explaining._agreement(maps | {"flat": replace(first, values=np.ones((4, 4), np.float32))})
    assert found["a", "b"] == pytest.approx(1)
    assert found["a", "c"] == pytest.approx(-1)
    assert found["a", "flat"] is None


def test_refusals(assessor: Assessor, sandbox: Sandbox, tmp_path: Path) -> None:
    (one,) = films_in(tmp_path, one=film(1))
    with pytest.raises(UsageError, match="0 films were given, but a page explains 1 to 64"):
        explain_films(assessor, [], sandbox=sandbox)
    with pytest.raises(UsageError, match="65 films were given"):
        explain_films(assessor, [one] * 65, sandbox=sandbox)
    with pytest.raises(UsageError, match="'covid' is not a finding of this model. Did you mean 'covid-19'"):
        explain_films(assessor, [one], finding="covid", sandbox=sandbox)


def test_the_page_holds_every_method_every_finding_and_the_words(
    asked: tuple[list[Explained], list[Refused]], assessor: Assessor, tmp_path: Path
) -> None:
    page = write_page(tmp_path, assessor, *asked, style="contour").read_text()
    for words in ("not for diagnosis", "Grad-CAM, normal", "occlusion, ", "integrated gradients, ", "How to read"):
        assert words in page
    assert "side.dcm is not explained" in page
    kept = json.loads((tmp_path / "explanation.json").read_text())
    assert [one["file"] for one in kept["films"]] == ["one.dcm", "two.dcm"]
    assert kept["films"][0]["notes"]["difference from a grey film, logit"] == 1.0
    pictures = list((tmp_path / "pictures").iterdir())
    assert len(pictures) == 2 * (1 + 3 + 2)  # the film, Grad-CAM of three findings, two other methods
    for path in pictures:
        with Image.open(path) as picture:
            assert picture.size[1] == 160
    shown = re.findall(r"data:image/png;base64,([^\"]+)", page)
    assert len(shown) == len(pictures)
    frames = [Image.open(io.BytesIO(base64.b64decode(one))).size for one in shown]
    assert len(set(frames)) == 1, "a place must be at the same place in the film and in each map beside it"
    assert "SYN" not in (tmp_path / "explanation.json").read_text()


def test_the_verb_writes_a_page_and_says_when_it_cannot(bundle_path: Path, tmp_path: Path) -> None:
    films_in(tmp_path, one=film(1))
    (tmp_path / "bad").mkdir()
    films_in(tmp_path / "bad", cut=b"no film")
    arguments = ["explain", str(bundle_path), "-q", "--no-occlusion", "--finding", "normal", "--out"]
    done = CliRunner().invoke(
        app, [*arguments, str(tmp_path / "why"), str(tmp_path / "one.dcm"), "--json"], catch_exceptions=False
    )
    assert done.exit_code == 0
    summary = json.loads(done.stdout.splitlines()[-1])
    assert (summary["films"], summary["methods"], summary["refused"]) == (1, ["Grad-CAM"], {})
    assert "Grad-CAM, normal" in Path(summary["path"]).read_text()
    (tmp_path / "empty").mkdir()
    for given, kind, said in (
        (["bad"], DataError, "The film can't be explained:\ncut.dcm: The file is neither DICOM"),
        (
            ["gone.dcm"],
            DataError,
            f"The film can't be explained:\ngone.dcm: It is not in {tmp_path}, or no plain file. Check the path.",
        ),
        (["gone.dcm", "bad"], DataError, "None of 2 films can be explained:\ngone.dcm: It is not in"),
        (["gone.dcm", "bad"], DataError, "\ncut.dcm: The file is neither DICOM"),
        (["empty"], UsageError, f"No film to explain in {tmp_path / 'empty'}. Give films, or folders with films."),
    ):
        failed = CliRunner().invoke(app, [*arguments, str(tmp_path / "none"), *(str(tmp_path / one) for one in given)])
        assert isinstance(failed.exception, kind)
        assert said in str(failed.exception)
    assert not (tmp_path / "none").exists()
