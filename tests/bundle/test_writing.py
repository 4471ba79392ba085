"""Writing: what goes in comes out, equal contents give equal bytes, and nothing else is ever overwritten."""

from pathlib import Path

import numpy as np
import pytest
from tests.bundle.small import FINDINGS, reference_for, small_bundle, small_graph, small_info, some_tiles

from hilum.bundle.reading import Bundle, read_bundle
from hilum.bundle.reference import ReferenceAnswers
from hilum.bundle.writing import write_bundle
from hilum.errors import BundleError


def write(path: Path, **changes: object) -> Path:
    graph = small_graph()
    parts = {"info": small_info(), "model_onnx": graph, "reference": reference_for(graph), "card_markdown": "# Card\n"}
    return write_bundle(path, **(parts | changes))  # type: ignore[arg-type]


def test_what_was_written_is_read_back(bundle: Bundle) -> None:
    assert bundle.info == small_info(ood=bundle.info.ood, drift=bundle.info.drift, heatmap_top=bundle.info.heatmap_top)
    assert bundle.model == small_graph()
    assert bundle.card == "# Model card: small\n"
    assert bundle.read("scorecard.json") == b'{"auroc": 0.8}'
    np.testing.assert_array_equal(bundle.reference.tiles, some_tiles(4))
    assert bundle.reference.outputs["cam"].shape == (4, 3, 16, 16)


def test_folder_and_zip_have_the_same_digest(tmp_path: Path, bundle: Bundle) -> None:
    folder = small_bundle(tmp_path / "small", files={"scorecard.json": b'{"auroc": 0.8}'})
    assert folder.is_dir()
    assert read_bundle(folder).sha256 == bundle.sha256


def test_equal_contents_give_an_equal_zip(tmp_path: Path, bundle_path: Path) -> None:
    again = small_bundle(tmp_path / "again.hilum", files={"scorecard.json": b'{"auroc": 0.8}'})
    assert again.read_bytes() == bundle_path.read_bytes()


def test_another_threshold_is_another_digest(tmp_path: Path) -> None:
    one = read_bundle(write(tmp_path / "one.hilum")).sha256
    other = read_bundle(write(tmp_path / "two.hilum", info=small_info(thresholds={"pneumonia": 0.31}))).sha256
    assert one != other


def test_a_bundle_is_replaced_by_a_bundle(tmp_path: Path) -> None:
    write(tmp_path / "chest", info=small_info(version="1"))
    write(tmp_path / "chest", info=small_info(version="2"))
    assert read_bundle(tmp_path / "chest").info.version == "2"


def test_a_folder_with_something_else_in_it_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "films").mkdir()
    (tmp_path / "films" / "one.dcm").write_bytes(b"x")
    with pytest.raises(BundleError, match="films holds something else than a bundle and is left alone"):
        write(tmp_path / "films")
    assert (tmp_path / "films" / "one.dcm").read_bytes() == b"x"


def test_a_zip_does_not_take_the_place_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "a.hilum").mkdir()
    with pytest.raises(BundleError, match=r"a.hilum is a folder, so no \.hilum file can take its place"):
        write(tmp_path / "a.hilum")


@pytest.mark.parametrize("name", ["model.onnx", "members.json", "bundle.json", "reference/tiles.npy"])
def test_a_further_file_may_not_take_a_members_name(tmp_path: Path, name: str) -> None:
    with pytest.raises(BundleError, match="is the bundle's own. Give the file another name"):
        write(tmp_path / "a.hilum", files={name: b""})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["../x", "/etc/x", "a//b", "a\\b", ".hidden", "a/../b", "C:x", "", "a/b/c/d/e", "ä"])
def test_a_further_file_needs_a_safe_name(tmp_path: Path, name: str) -> None:
    with pytest.raises(BundleError, match="has a name that is not allowed"):
        write(tmp_path / "a.hilum", files={name: b""})


def test_parts_that_disagree_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(
        BundleError, match=r"reference/logits.npy' has shape \(4, 3\), which disagrees with 4 tiles, the 2"
    ):
        write(tmp_path / "a.hilum", info=small_info(findings=("normal", "covid-19"), thresholds={}))
    assert not list(tmp_path.iterdir())


def test_reference_tiles_must_be_what_the_preprocessing_makes(tmp_path: Path) -> None:
    good = reference_for(small_graph())
    wrong = ReferenceAnswers(tiles=good.tiles[:, :, :16, :16], outputs=good.outputs)
    with pytest.raises(BundleError, match=r"reference/tiles.npy' has shape \(4, 1, 16, 16\), but \(1, 32, 32\) a tile"):
        write(tmp_path / "a.hilum", reference=wrong)


def test_reference_answers_must_be_numbers(tmp_path: Path) -> None:
    good = reference_for(small_graph())
    wrong = ReferenceAnswers(tiles=good.tiles, outputs={**good.outputs, "logits": np.full((4, len(FINDINGS)), np.nan)})
    with pytest.raises(BundleError, match="reference/logits.npy' holds values that are not numbers"):
        write(tmp_path / "a.hilum", reference=wrong)


def test_a_missing_reference_answer_is_named(tmp_path: Path) -> None:
    good = reference_for(small_graph())
    fewer = {name: values for name, values in good.outputs.items() if name != "cam"}
    with pytest.raises(BundleError, match="'reference/cam.npy' is missing"):
        write(tmp_path / "a.hilum", reference=ReferenceAnswers(tiles=good.tiles, outputs=fewer))


def test_member_std_may_be_left_out_for_one_member(tmp_path: Path) -> None:
    good = reference_for(small_graph())
    fewer = {name: values for name, values in good.outputs.items() if name != "member_std"}
    path = write(tmp_path / "a.hilum", reference=ReferenceAnswers(tiles=good.tiles, outputs=fewer))
    assert "member_std" not in read_bundle(path).reference.outputs
