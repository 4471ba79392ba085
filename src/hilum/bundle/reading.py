"""Read a bundle: every member's hash is verified before anything of it is used."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from hilum.bundle.archive import BundleLimits, Source, open_source
from hilum.bundle.members import AGAIN, MEMBERS_MEMBER, SIGNATURE_MEMBER, Member, read_members
from hilum.bundle.onnx_file import ModelFacts, model_facts
from hilum.bundle.reference import ReferenceAnswers, read_reference
from hilum.bundle.schema import (
    CARD_MEMBER,
    INFO_MEMBER,
    MODEL_MEMBER,
    OPTIONAL_OUTPUTS,
    OUTPUTS,
    BundleInfo,
    read_info,
)
from hilum.bundle.signature import MAX_BYTES, check_signature, check_trusted
from hilum.errors import BundleError
from hilum.keys import PublicKey
from hilum.provenance import sha256_bytes

REQUIRED_MEMBERS = (INFO_MEMBER, MODEL_MEMBER, CARD_MEMBER)
_MAX_LIST_BYTES = 2**20

OPSETS = range(17, 21)
"""Versions of ONNX's operator set that a graph may be written in: those that are tested in every runtime here."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Bundle:
    """A verified bundle, whole in memory: what was hashed is what is used."""

    info: BundleInfo
    """Labels, preprocessing, thresholds, references, provenance."""
    sha256: str
    """The bundle's digest, over its members' names, hashes and lengths; the same as folder and as zip."""
    members: Mapping[str, Member]
    """Hash and length of each member."""
    reference: ReferenceAnswers
    """Tiles and the answers that they must give."""
    graph: ModelFacts
    """What the ONNX graph declares."""
    contents: Mapping[str, bytes] = field(repr=False)
    """Content of each member."""
    signer: PublicKey | None = None
    """Whose signature it carries, checked; None when unsigned."""

    @property
    def model(self) -> bytes:
        """The ONNX graph."""
        return self.read(MODEL_MEMBER)

    @property
    def card(self) -> str:
        """The model card, Markdown."""
        return self.read(CARD_MEMBER).decode("utf-8", "replace")

    def read(self, name: str) -> bytes:
        """Content of a member.

        Raises:
            BundleError: there is none of that name.
        """
        if name not in self.contents:
            raise BundleError(f"The bundle has no member {name!r}. It holds: {', '.join(sorted(self.contents))}.")
        return self.contents[name]


def read_bundle(path: Path | str, *, limits: BundleLimits | None = None, trusted: Sequence[PublicKey] = ()) -> Bundle:
    """Read and verify a bundle.

    Args:
        path: a folder or a ``.hilum`` file.
        limits: what it may cost.
        trusted: keys of which one must have signed it; empty when a signature is not required. One that is there is
            checked in any case.

    Raises:
        BundleError: anything changed, missing, extra, truncated, twice, outside, linked, too big, of a newer schema,
            contradicting itself or not signed as required; the message names the member.
    """
    with open_source(Path(path), limits or BundleLimits()) as source:
        members, digest = _list(source)
        signer = _signer(source, members)
        check_trusted(signer, trusted)
        contents = {name: _verified(source, name, member) for name, member in members.items()}
    return assemble(contents, members, digest, signer)


def title_of(path: Path | str, *, limits: BundleLimits | None = None) -> tuple[str, str, str]:
    """What a bundle calls itself, without its graph: quick, and no promise that the rest of it is whole.

    Args:
        path: a folder or a ``.hilum`` file.
        limits: what it may cost.

    Returns:
        name, version and digest, of a list of members and an info that are verified.

    Raises:
        BundleError: these are missing or changed, or it is no bundle.
    """
    with open_source(Path(path), limits or BundleLimits()) as source:
        members, digest = _list(source)
        if INFO_MEMBER not in members:
            raise BundleError(f"Bundle member {INFO_MEMBER!r} is missing. Make the bundle again.")
        info = read_info(_verified(source, INFO_MEMBER, members[INFO_MEMBER]))
    return info.name, info.version, digest


def assemble(
    contents: Mapping[str, bytes], members: Mapping[str, Member], digest: str, signer: PublicKey | None = None
) -> Bundle:
    """A bundle from contents whose hashes are verified: the parts must agree with one another.

    Raises:
        BundleError: they don't.
    """
    for name in REQUIRED_MEMBERS:
        if name not in contents:
            raise BundleError(f"Bundle member {name!r} is missing. Make the bundle again.")
    info = read_info(contents[INFO_MEMBER])
    graph = model_facts(contents[MODEL_MEMBER])
    _check_graph(graph, info)
    reference = read_reference(contents, info)
    return Bundle(
        info=info,
        sha256=digest,
        members=members,
        reference=reference,
        graph=graph,
        contents=contents,
        signer=signer,
    )


def _list(source: Source) -> tuple[dict[str, Member], str]:
    present = source.sizes
    if MEMBERS_MEMBER not in present:
        raise BundleError(
            f"Bundle member {MEMBERS_MEMBER!r} is missing, so this is no bundle or a part of one. {AGAIN}"
        )
    if present[MEMBERS_MEMBER] > _MAX_LIST_BYTES:
        raise BundleError(f"Bundle member {MEMBERS_MEMBER!r} has {present[MEMBERS_MEMBER]:,} bytes, too many. {AGAIN}")
    members, digest = read_members(source.read(MEMBERS_MEMBER))
    for name, member in members.items():
        if name not in present:
            raise BundleError(f"Bundle member {name!r} is missing. {AGAIN}")
        if present[name] != member.bytes:
            raise BundleError(
                f"Bundle member {name!r} has {present[name]:,} bytes, but {member.bytes:,} are listed: it was "
                f"truncated or changed. {AGAIN}"
            )
    for name in present:
        if name not in members and name not in (MEMBERS_MEMBER, SIGNATURE_MEMBER):
            raise BundleError(f"Bundle member {name!r} is extra: {MEMBERS_MEMBER} does not list it. {AGAIN}")
    return members, digest


def _signer(source: Source, members: Mapping[str, Member]) -> PublicKey | None:
    if SIGNATURE_MEMBER not in source.sizes:
        return None
    if source.sizes[SIGNATURE_MEMBER] > MAX_BYTES:
        raise BundleError(
            f"Bundle member {SIGNATURE_MEMBER!r} has {source.sizes[SIGNATURE_MEMBER]:,} bytes, too many. {AGAIN}"
        )
    return check_signature(source.read(SIGNATURE_MEMBER), members)


def _verified(source: Source, name: str, member: Member) -> bytes:
    content = source.read(name)
    if len(content) != member.bytes or sha256_bytes(content) != member.sha256:
        raise BundleError(f"Bundle member {name!r} was changed: its SHA-256 is not the listed one. {AGAIN}")
    return content


def _check_graph(graph: ModelFacts, info: BundleInfo) -> None:
    if graph.external:
        raise BundleError(
            f"{MODEL_MEMBER} keeps values of {graph.external[0]!r} in another file, which a bundle never does. "
            "Export the model as a single file."
        )
    if graph.broken:
        raise BundleError(
            f"{MODEL_MEMBER} holds weights that are not numbers ({graph.broken[0]!r}), so every answer would be wrong. "
            "Train or export the model anew."
        )
    if graph.trains:
        raise BundleError(f"{MODEL_MEMBER} holds a training graph, which a bundle never does. Export the model anew.")
    if graph.opsets.keys() != {""} or graph.opsets[""] not in OPSETS:
        found = ", ".join(f"{name or 'ONNX'} {version}" for name, version in sorted(graph.opsets.items())) or "none"
        raise BundleError(
            f"{MODEL_MEMBER} is written in the operator sets: {found}; it needs ONNX's own alone, version {OPSETS[0]} "
            f"to {OPSETS[-1]}. Export the model anew."
        )
    missing = [name for name in OUTPUTS if name not in graph.outputs and name not in OPTIONAL_OUTPUTS]
    if missing or len(graph.inputs) != 1:
        raise BundleError(
            f"{MODEL_MEMBER} has inputs {list(graph.inputs)} and lacks outputs {missing}; it needs one input and "
            f"{', '.join(OUTPUTS)}. Export the model anew."
        )
    if (said := graph.metadata.get("findings")) is not None and _names(said) != info.findings:
        raise BundleError(
            f"{MODEL_MEMBER} was exported for the findings {said}, but {INFO_MEMBER} names {list(info.findings)}. "
            "Make the bundle again."
        )


def _names(text: str) -> tuple[str, ...]:
    """Findings in the graph's metadata: a JSON list, or names between commas."""
    try:
        values = json.loads(text)
    except ValueError:
        values = text.split(",")
    return tuple(str(value).strip() for value in values) if isinstance(values, list) else (str(values),)
