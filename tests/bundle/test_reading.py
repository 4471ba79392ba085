"""Reading: whatever was changed, added, dropped, linked or blown up is refused, and the member is named."""

import io
import json
import os
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from tests.bundle.small import small_bundle

from hilum.bundle.archive import BundleLimits, zip_bytes
from hilum.bundle.members import MEMBERS_MEMBER, members_of, write_members
from hilum.bundle.reading import Bundle, read_bundle
from hilum.errors import BundleError

Contents = dict[str, bytes]


def packed(contents: Contents) -> bytes:
    """A zip whose list of members is right: what an insider who knows the format would make."""
    return zip_bytes({**contents, MEMBERS_MEMBER: write_members(members_of(contents))})


def refused(path: Path, content: bytes, words: str, limits: BundleLimits | None = None) -> None:
    path.write_bytes(content)
    with pytest.raises(BundleError, match=words):
        read_bundle(path, limits=limits)


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "b.hilum"


@pytest.fixture
def contents(bundle: Bundle) -> Contents:
    return dict(bundle.contents)


@pytest.fixture
def listed(bundle_path: Path) -> Contents:
    """All members with the list of members, as they lie in the zip."""
    with zipfile.ZipFile(bundle_path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def test_a_changed_member_is_named(target: Path, listed: Contents) -> None:
    listed["model.onnx"] = listed["model.onnx"][:-1] + b"\0"
    refused(target, zip_bytes(listed), "'model.onnx' was changed: its SHA-256 is not the listed one")


def test_a_missing_member_is_named(target: Path, listed: Contents) -> None:
    del listed["model_card.md"]
    refused(target, zip_bytes(listed), "'model_card.md' is missing")


def test_an_extra_member_is_named(target: Path, listed: Contents) -> None:
    refused(target, zip_bytes({**listed, "run.py": b"print()"}), "'run.py' is extra: members.json does not list it")


def test_a_truncated_member_is_named(target: Path, listed: Contents) -> None:
    listed["bundle.json"] = listed["bundle.json"][:-10]
    refused(target, zip_bytes(listed), "'bundle.json' has .* bytes, but .* are listed: it was truncated or changed")


def test_a_missing_list_of_members_is_refused(target: Path, contents: Contents) -> None:
    refused(target, zip_bytes(contents), "'members.json' is missing, so this is no")


def test_a_truncated_zip_is_refused(target: Path, bundle_path: Path) -> None:
    whole = bundle_path.read_bytes()
    for length in (0, 1, 100, len(whole) // 2, len(whole) - 1):
        refused(target, whole[:length], "is damaged or no .hilum file|belong to no member")


def test_bytes_before_or_after_the_zip_are_refused(target: Path, bundle_path: Path) -> None:
    whole = bundle_path.read_bytes()
    refused(target, b"MZ" + whole, "belong to")
    refused(target, whole + b"\0", "is damaged or no .hilum file|belong to no member")


def test_a_comment_in_the_zip_is_refused(target: Path, listed: Contents) -> None:
    stream = io.BytesIO(zip_bytes(listed))
    with zipfile.ZipFile(stream, "a") as archive:
        archive.comment = b"hidden"
    refused(target, stream.getvalue(), "b.hilum holds bytes that belong to no member")


def raw_zip(entries: list[tuple[zipfile.ZipInfo, bytes]]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for entry, content in entries:
            archive.writestr(entry, content)
    return stream.getvalue()


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_member_that_is_there_twice_is_named(target: Path, listed: Contents) -> None:
    entries = [(zipfile.ZipInfo(name), content) for name, content in listed.items()]
    refused(target, raw_zip([*entries, (zipfile.ZipInfo("model.onnx"), b"x")]), "'model.onnx' is there twice")


@pytest.mark.parametrize("name", ["../model.onnx", "/model.onnx", "a/../b", "a\\b", "C:/x", "folder/", ".ssh/x"])
def test_a_path_that_leads_outside_is_named(target: Path, listed: Contents, name: str) -> None:
    entries = [(zipfile.ZipInfo(one), content) for one, content in listed.items()]
    refused(target, raw_zip([*entries, (zipfile.ZipInfo(name), b"")]), "has a name that is not allowed")


def test_a_link_in_a_zip_is_named(target: Path, listed: Contents) -> None:
    link = zipfile.ZipInfo("link")
    link.create_system, link.external_attr = 3, 0o120777 << 16
    entries = [(zipfile.ZipInfo(one), content) for one, content in listed.items()]
    refused(target, raw_zip([*entries, (link, b"/etc/passwd")]), "'link' is a link or no plain file")


def test_a_compressed_member_is_named_and_never_unfolded(target: Path, listed: Contents) -> None:
    bomb = zipfile.ZipInfo("zeros")
    bomb.compress_type = zipfile.ZIP_DEFLATED
    entries = [(zipfile.ZipInfo(one), content) for one, content in listed.items()]
    refused(target, raw_zip([*entries, (bomb, bytes(10_000_000))]), "'zeros' is compressed; bundles are stored plain")


def test_overlapping_members_are_refused(target: Path, listed: Contents) -> None:
    """A bomb of another kind: many directory entries that share one stretch of the file."""
    content = bytearray(zip_bytes(listed))
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        start, second = archive.start_dir, archive.infolist()[1]
    entry = content.index(b"PK\x01\x02", start + 4)
    content[entry + 42 : entry + 46] = (second.header_offset - 5).to_bytes(4, "little")
    refused(target, bytes(content), "bytes overlap or belong to no member")


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        (BundleLimits(max_members=3), "more than the 3 members allowed"),
        (BundleLimits(max_member_bytes=5000), "has .* bytes, more than the 5,000 allowed"),
        (BundleLimits(max_total_bytes=20000), "b.hilum has .* bytes, more than the 20,000 allowed"),
    ],
)
def test_limits_are_checked_before_reading(target: Path, bundle_path: Path, limits: BundleLimits, words: str) -> None:
    refused(target, bundle_path.read_bytes(), words, limits)


def test_the_sum_of_members_is_limited() -> None:
    with pytest.raises(BundleError, match="members have 30 bytes together, more than the 20 allowed"):
        BundleLimits(max_total_bytes=20).check({"a": 15, "b": 15})


def test_nothing_at_the_path_is_said(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"neither a bundle's folder nor a \.hilum file"):
        read_bundle(tmp_path / "none.hilum")


def test_a_folder_of_something_else_is_named_with_the_mend(tmp_path: Path) -> None:
    (tmp_path / "result.json").touch()
    with pytest.raises(BundleError, match=rf"{tmp_path} is a folder without members\.json, .*hilum bundle create"):
        read_bundle(tmp_path)


# --- a list of members that was tampered with


def edited(listed: Contents, edit: Callable[[dict[str, object]], None]) -> bytes:
    table = json.loads(listed[MEMBERS_MEMBER])
    edit(table)
    text = json.dumps(table, sort_keys=True, separators=(",", ":")) + "\n"
    return zip_bytes({**listed, MEMBERS_MEMBER: text.encode()})


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("format", "zip", "members.json has format 'zip', but must have 'hilum-bundle'"),
        ("schema_version", 2, "members.json has schema_version 2, but this hilum reads up to 1. Update hilum."),
        ("schema_version", "1", "members.json has schema_version '1', but needs"),
        ("digest", "0" * 64, "members.json was changed: its digest or form is not that of its members"),
        ("note", "x", "members.json was changed"),
        ("members", {}, "members.json lists no members"),
        ("members", {"members.json": {"sha256": "0" * 64, "bytes": 1}}, "lists members.json, which is never"),
        ("members", {"a": {"sha256": "0", "bytes": 1}}, "members.json gives no SHA-256 for 'a'"),
        ("members", {"a": {"sha256": "0" * 64, "bytes": -1}}, "members.json gives no length for 'a'"),
        ("members", {"a": {"sha256": "0" * 64, "bytes": True}}, "members.json gives no length for 'a'"),
        ("members", {"../a": {"sha256": "0" * 64, "bytes": 1}}, r"'\.\./a' has a name that is not allowed"),
        (
            "members",
            {"a": {"sha256": "0" * 64, "bytes": 1}, "A": {"sha256": "0" * 64, "bytes": 1}},
            "names that differ in case only",
        ),
    ],
)
def test_a_wrong_list_of_members_is_refused(
    target: Path, listed: Contents, key: str, value: object, words: str
) -> None:
    refused(target, edited(listed, lambda table: table.update({key: value})), words)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"\xff", "members.json is not plain JSON"),
        (b"[]", "members.json holds a list, not a JSON object"),
        (b'{"format": NaN}', "NaN is no JSON number"),
        (b'{"a": 1, "a": 2}', "a key stands twice in one object"),
        (b"[" * 100_000, "members.json is not plain JSON"),
    ],
)
def test_a_list_of_members_that_is_no_json_is_refused(target: Path, listed: Contents, text: bytes, words: str) -> None:
    refused(target, zip_bytes({**listed, MEMBERS_MEMBER: text}), words)


def test_a_huge_list_of_members_is_not_even_read(target: Path, listed: Contents) -> None:
    refused(target, zip_bytes({**listed, MEMBERS_MEMBER: b" " * (2**20 + 1)}), "'members.json' has 1,048,577 bytes")


# --- contents that are wrong although every hash is right


@pytest.mark.parametrize("name", ["bundle.json", "model.onnx", "model_card.md", "reference/tiles.npy"])
def test_a_bundle_without_a_needed_member_is_refused(target: Path, contents: Contents, name: str) -> None:
    del contents[name]
    refused(target, packed(contents), f"'{name}' is missing")


def with_info(contents: Contents, **changes: object) -> bytes:
    info = json.loads(contents["bundle.json"]) | changes
    return packed({**contents, "bundle.json": json.dumps(info).encode()})


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"schema_version": 2}, "bundle.json has schema_version 2, but this hilum reads up to 1. Update hilum."),
        ({"colour": "red"}, "bundle.json can't be used: .*unknown key 'colour'"),
        ({"temperature": -1}, "bundle.temperature is -1.0, but must be above 0"),
        ({"temperature": "warm"}, "bundle.json.temperature is 'warm'"),
        ({"findings": ["normal"]}, "Findings need at least two names"),
        ({"findings": ["normal", "pneumonia", "tb"]}, "bundle.thresholds names 'covid-19', which is not among"),
        ({"normal": "healthy"}, "bundle.normal is 'healthy', which is not among the findings"),
        ({"name": "../x"}, "bundle.name is '../x'"),
        ({"preprocessing": {"size": 32, "version": 99}}, "Preprocessing.version is 99"),
        ({"thresholds": {"pneumonia": 1.5}}, "bundle.thresholds.pneumonia is 1.5, but must be within 0 … 1"),
        ({"abstention": {"least_probability": 2.0}}, "bundle.abstention.least_probability is 2.0"),
        ({"ood": {"mean": [0.0], "scale": [0.0], "threshold": 1.0}}, "ood needs scales and a threshold above 0"),
        ({"ood": {"mean": [0.0], "scale": [1.0, 1.0], "threshold": 1.0}}, "ood needs as many means as scales"),
        ({"ood": {"mean": [0.0], "scale": [1.0], "threshold": 1.0}}, "reference/features.npy' has shape"),
    ],
)
def test_a_bundle_json_that_contradicts_is_refused(
    target: Path, contents: Contents, changes: dict[str, object], words: str
) -> None:
    refused(target, with_info(contents, **changes), words)


def test_a_drift_reference_for_other_labels_is_refused(target: Path, contents: Contents) -> None:
    info = json.loads(contents["bundle.json"])
    drift = info["drift"] | {"probs_quantiles": {"normal": [0.0], "tb": [1.0]}}
    refused(
        target, with_info(contents, drift=drift), r"bundle.drift describes \['normal', 'tb'\], but the findings are"
    )


def npy(values: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, values, allow_pickle=True)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is no array"),
        (b"\x93NUMPY\x09\x00", "is no array"),
        (npy(np.asarray([{"a": 1}], dtype=object)), "is object .* but must be a whole float32 array"),
        (npy(np.zeros((4, 3))), r"is float64 \(4, 3\)"),
        (npy(np.zeros((4, 3), np.float32))[:-4], ".*but must be a whole float32 array"),
        (npy(np.asfortranarray(np.zeros((4, 3), np.float32))), ".*but must be a whole float32 array"),
        (npy(np.zeros((4, 3), np.float32)).replace(b"(4, 3)", b"(4, 10**10)"), "is no array"),
        (npy(np.zeros((4, 3), np.float32)).replace(b"(4, 3), }   ", b"(999999999,)}"), ".*but must be a whole float32"),
        (npy(np.zeros((5, 3), np.float32)), r"has shape \(5, 3\), which disagrees with 4 tiles"),
    ],
)
def test_a_reference_that_is_no_plain_array_is_refused(
    target: Path, contents: Contents, content: bytes, words: str
) -> None:
    refused(target, packed({**contents, "reference/logits.npy": content}), f"'reference/logits.npy' {words}")


def test_an_unknown_member_is_named_when_asked_for(bundle: Bundle) -> None:
    with pytest.raises(BundleError, match="has no member 'x'. It holds: bundle.json, "):
        bundle.read("x")


# --- folders


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return small_bundle(tmp_path / "small")


def test_a_changed_file_in_a_folder_is_named(folder: Path) -> None:
    path = folder / "model_card.md"
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    with pytest.raises(BundleError, match="'model_card.md' was changed"):
        read_bundle(folder)


def test_an_extra_file_in_a_folder_is_named(folder: Path) -> None:
    (folder / "reference" / "more.npy").write_bytes(b"")
    with pytest.raises(BundleError, match=r"'reference/more.npy' is extra"):
        read_bundle(folder)


def test_a_link_in_a_folder_is_named(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "outside.onnx").write_bytes((folder / "model.onnx").read_bytes())
    (folder / "model.onnx").unlink()
    (folder / "model.onnx").symlink_to(tmp_path / "outside.onnx")
    with pytest.raises(BundleError, match="'model.onnx' is a link, which a bundle never holds"):
        read_bundle(folder)


def test_a_pipe_in_a_folder_is_named_and_not_waited_for(folder: Path) -> None:
    (folder / "model.onnx").unlink()
    os.mkfifo(folder / "model.onnx")
    with pytest.raises(BundleError, match="'model.onnx' is not a plain file"):
        read_bundle(folder)


def test_a_hidden_file_in_a_folder_is_named(folder: Path) -> None:
    (folder / ".DS_Store").write_bytes(b"")
    with pytest.raises(BundleError, match=r"'\.DS_Store' has a name that is not allowed"):
        read_bundle(folder)


def test_a_folder_with_too_many_files_is_refused(folder: Path) -> None:
    with pytest.raises(BundleError, match="more than the 2 members allowed"):
        read_bundle(folder, limits=BundleLimits(max_members=2))


def test_a_file_that_becomes_a_link_after_it_was_listed_is_not_followed(folder: Path, tmp_path: Path) -> None:
    from hilum.bundle.archive import open_source

    with open_source(folder, BundleLimits()) as source:
        (folder / "model.onnx").rename(tmp_path / "elsewhere")
        (folder / "model.onnx").symlink_to(tmp_path / "elsewhere")
        with pytest.raises(BundleError, match="'model.onnx' can't be read"):
            source.read("model.onnx")
