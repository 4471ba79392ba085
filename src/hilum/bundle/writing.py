"""Write a bundle, whole or not at all; what is written has first passed the reader's own checks."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from hilum.bundle.archive import SUFFIX, BundleLimits, zip_bytes
from hilum.bundle.members import MEMBERS_MEMBER, SIGNATURE_MEMBER, check_name, members_of, write_members
from hilum.bundle.reading import Bundle, assemble, read_bundle
from hilum.bundle.reference import ReferenceAnswers
from hilum.bundle.schema import CARD_MEMBER, INFO_MEMBER, MODEL_MEMBER, BundleInfo
from hilum.bundle.signature import write_signature
from hilum.errors import BundleError
from hilum.files import replacing, replacing_directory, write_bytes
from hilum.keys import PrivateKey


def write_bundle(
    path: Path | str,
    *,
    info: BundleInfo,
    model_onnx: bytes,
    reference: ReferenceAnswers,
    card_markdown: str,
    files: Mapping[str, bytes] | None = None,
) -> Path:
    """Write a bundle.

    Args:
        path: ``….hilum`` for a zip, any other name for a folder. Equal contents give an equal zip, byte for byte.
        info: what goes into ``bundle.json``.
        model_onnx: the single-file graph; see :data:`hilum.bundle.schema.OUTPUTS`.
        reference: tiles and the graph's own outputs for them.
        card_markdown: the model card.
        files: further members by name, such as ``{"scorecard.json": …}``.

    Returns:
        the path.

    Raises:
        BundleError: the parts disagree, a name is taken or not allowed, or the path holds something else than a bundle.
    """
    path = Path(path)
    contents = {
        INFO_MEMBER: info.to_bytes(),
        MODEL_MEMBER: model_onnx,
        CARD_MEMBER: card_markdown.encode(),
        **reference.to_members(),
    }
    for name, content in (files or {}).items():
        check_name(name)
        if name in contents or name in (MEMBERS_MEMBER, SIGNATURE_MEMBER):
            raise BundleError(f"Bundle member {name!r} is the bundle's own. Give the file another name.")
        contents[name] = content
    members = members_of(contents)
    BundleLimits().check({name: member.bytes for name, member in members.items()})
    listed = write_members(members)
    assemble(contents, members, digest="")
    _write(path, {**contents, MEMBERS_MEMBER: listed})
    return path


def sign_bundle(path: Path | str, key: PrivateKey) -> Bundle:
    """Sign a bundle where it lies; a signature that it had is replaced. Content and digest stay what they were.

    Args:
        path: a ``.hilum`` file, which is replaced whole, or a folder, which gains one file.
        key: who vouches for it.

    Returns:
        the bundle as read before, with the new signer.

    Raises:
        BundleError: the bundle can't be trusted as it is; it is left untouched.
    """
    path = Path(path)
    bundle = read_bundle(path)
    signature = write_signature(bundle.members, key)
    if path.is_dir():
        write_bytes(path / SIGNATURE_MEMBER, signature)
    else:
        listed = write_members(bundle.members)
        with replacing(path) as temporary:
            temporary.write_bytes(zip_bytes({**bundle.contents, MEMBERS_MEMBER: listed, SIGNATURE_MEMBER: signature}))
    return replace(bundle, signer=key.public)


def _write(path: Path, contents: Mapping[str, bytes]) -> None:
    if path.suffix == SUFFIX:
        if path.is_dir():
            raise BundleError(f"{path} is a folder, so no {SUFFIX} file can take its place. Choose another name.")
        with replacing(path) as temporary:
            temporary.write_bytes(zip_bytes(contents))
        return
    if path.is_file() or (path.is_dir() and any(path.iterdir()) and not (path / MEMBERS_MEMBER).is_file()):
        raise BundleError(f"{path} holds something else than a bundle and is left alone. Choose another name.")
    with replacing_directory(path) as folder:
        for name, content in contents.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)
