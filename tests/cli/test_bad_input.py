"""What a person gets who brings bad films, bad tables or bad paths: refused by name, with the mend."""

from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from hilum.cli.data import app
from hilum.cli.verbs import app as verbs
from hilum.datasets.checks import check
from hilum.datasets.chest_labels import finding_of
from hilum.datasets.importing import import_csv
from hilum.datasets.manifest import Manifest
from hilum.errors import FilmError, LabelError, ManifestError, RunError, UsageError
from hilum.imaging.reading import read_film
from hilum.runs.layout import RunFolder


@pytest.mark.parametrize("doubt", ["normal?", "COVID-19 (?)", "?pneumonia"])
def test_a_label_in_doubt_is_not_taken_as_certain(doubt: str) -> None:
    with pytest.raises(LabelError, match=r"is in doubt\. Decide on one of normal, pneumonia, covid-19"):
        finding_of(doubt)


def test_check_says_in_red_that_a_ct_is_no_radiograph(tmp_path: Path) -> None:
    columns = {"path": ["a.dcm", "b.dcm"], "film_id": ["1", "2"], "modality": ["CT", "DX"]}
    flags = {flag.code: flag for flag in check(Manifest.from_columns(columns, folder=tmp_path)).flags}
    assert flags["modality"].severity == "red"
    assert flags["modality"].sentence == "1 films are no radiographs (CR or DX) but CT. Leave them out."


@pytest.mark.parametrize("verb", ["import", "split"])
def test_an_out_that_is_a_folder_is_refused_before_anything_is_read(verb: str, tmp_path: Path) -> None:
    done = CliRunner().invoke(app, [verb, str(tmp_path / "none"), "--out", str(tmp_path)])
    assert isinstance(done.exception, UsageError)
    assert "is a folder. Name a file in it, such as" in str(done.exception)


def test_an_out_below_a_file_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = CliRunner().invoke(app, ["import", str(tmp_path), "--out", str(tmp_path / "file" / "m.parquet")])
    assert isinstance(done.exception, UsageError)
    assert "takes no files. Choose another folder." in str(done.exception)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file"]


def test_weights_under_another_suffix_are_refused_before_anything_is_made(tmp_path: Path) -> None:
    done = CliRunner().invoke(verbs, ["pretrain", "--out", str(tmp_path / "w.json")])
    assert isinstance(done.exception, UsageError)
    assert str(done.exception).endswith(
        f"w.json has another suffix than weights have. Name it {tmp_path / 'w.safetensors'}."
    )


@pytest.mark.parametrize("name", ["film.dcm", "1.2.840.1"])
def test_a_film_where_a_table_belongs_is_named_as_a_film(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(bytes(128) + b"DICM")
    with pytest.raises(ManifestError, match=f"{name} is a film, not a table. Give the folder that it lies in"):
        import_csv(tmp_path / name)


def test_a_file_where_a_run_belongs_is_named_as_a_file(tmp_path: Path) -> None:
    (tmp_path / "chest.hilum").touch()
    with pytest.raises(RunError, match=r"chest\.hilum is a file, and a run is a folder\. Name the folder that hilum"):
        RunFolder(tmp_path / "chest.hilum").read(RunFolder(tmp_path / "chest.hilum").result)


@pytest.mark.parametrize("damage", ["text", "no syntax", "half a picture"])
def test_a_film_that_cannot_be_read_gets_the_mend_too(damage: str) -> None:
    content = {
        "text": b"not a film",
        "no syntax": bytes(128) + b"DICM" + bytes(100),
        "half a picture": _jpeg()[:400],
    }[damage]
    with pytest.raises(FilmError, match=r"(Send it again|Export the film as one of these)\.$"):
        read_film(content)


def _jpeg() -> bytes:
    import io

    from PIL import Image

    out = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 255, (200, 200)).astype(np.uint8)
    Image.fromarray(noise).save(out, "JPEG")
    return out.getvalue()
