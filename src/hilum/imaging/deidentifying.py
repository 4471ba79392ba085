"""De-identification of a folder of films: each in a sandboxed child, written whole or not at all, with a report."""

import csv
import io
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hilum.errors import DataError, FilmError, UsageError
from hilum.files import replacing_directory, write_json, write_text
from hilum.imaging.burnt_in_text import TextLine
from hilum.imaging.deidentification import METHODS, NOT_DICOM, Deidentified, Fate, Policy, deidentify
from hilum.imaging.dicom_reading import is_dicom
from hilum.imaging.limits import Limits
from hilum.imaging.pseudonyms import Pseudonyms
from hilum.imaging.sandbox import Sandbox
from hilum.progress import Progress, Silent

PRELOAD = ("pydicom.pixels.decoders", "hilum.imaging.deidentification")
FILMS, REPORT, TABLE = "films", "report.json", "report.csv"
DOUBTFUL, TEXT = "doubtful", "text.csv"
"""Where films lie that a person should look at first, and the list of what looked like text."""

DETECTION = {
    False: "Burnt-in text is not looked for: what a film doesn't say of itself and no mask covers stays in its pixels. "
    "Look at the films before you give them away, or have it looked for with --find-text.",
    True: "Burnt-in text was looked for; what is sure was blackened, and films with what isn't lie apart, in doubtful. "
    "Some text is missed: look at the films before you give them away.",
}


@dataclass(slots=True)
class Outcome:
    """What became of a folder."""

    films: int = 0
    """Films written."""
    patients: set[str] = field(default_factory=set)
    """Their pseudonyms."""
    burned_in: Counter[str] = field(default_factory=Counter)
    """Films by what they said of burnt-in text."""
    fates: Counter[Fate] = field(default_factory=Counter)
    """Films by the fate of an attribute."""
    text: list[dict[str, Any]] = field(default_factory=list)
    """Lines that look like burnt-in text: the new film, the rectangle, what became of it."""
    doubtful: int = 0
    """Films that a person should look at first."""
    left_out: list[tuple[Path, str, str]] = field(default_factory=list)
    """Files that were not written: path, code and reason."""


def deidentify_file(path: Path, key: bytes, policy: Policy) -> Deidentified:
    """De-identify one file; runs in a child.

    Raises:
        FilmError: see `deidentify`; also when the file can't be read.
    """
    try:
        with open(path, "rb") as stream:
            Limits().check_file(stream.seek(0, io.SEEK_END))
            stream.seek(0)
            content = stream.read()
    except OSError as error:
        raise FilmError(f"The file can't be read ({error.strerror}).", code="unreadable") from None
    return deidentify(content, key, policy)


def deidentify_folder(
    source: Path, out: Path, key: bytes, policy: Policy, *, workers: int = 1, progress: Progress | None = None
) -> Outcome:
    """De-identify every DICOM film of a folder.

    Writes ``films/<patient>/<SOP instance UID>.dcm``, ``report.json`` and ``report.csv``; where text is looked for also
    ``text.csv``, and films that a person should look at into ``doubtful`` instead of ``films``. No name of a file or
    folder of the source, which may name a patient, is written anywhere. An interruption leaves nothing.

    Args:
        source: a folder, or one file.
        out: a folder that isn't there yet, and lies neither inside the source nor around it.
        key: of the pseudonyms.
        policy: what is kept.
        workers: films at a time.
        progress: where progress goes.

    Raises:
        UsageError: the key, the source or the folder can't be used, or not one file could be de-identified.
    """
    pseudonyms = Pseudonyms(key)
    _check_places(source, out)
    paths = _files(source)
    outcome = Outcome()
    films = [path for path in paths if _may_be_dicom(path, outcome)]
    with (
        replacing_directory(out) as folder,
        (progress or Silent()).bar("de-identifying", len(films)) as bar,
    ):
        if films:
            with Sandbox(min(workers, len(films)), wall_s=60, preload=PRELOAD) as sandbox:
                for index, result in sandbox.map(deidentify_file, ((path, key, policy) for path in films)):
                    _take(outcome, folder, films[index], result)
                    bar.advance()
        if not outcome.films:
            reasons = Counter(reason for _, _, reason in outcome.left_out)
            raise UsageError(
                f"None of {len(paths)} files could be de-identified; nothing was written. "
                f"The commonest reason: {reasons.most_common(1)[0][0]}"
            )
        _write_report(folder, outcome, policy, pseudonyms)
    outcome.left_out.sort()
    return outcome


def _check_places(source: Path, out: Path) -> None:
    if not source.exists():
        raise UsageError(f"{source} doesn't exist. Name a folder of DICOM films, or one film.")
    if out.exists() or out.is_symlink():
        raise UsageError(f"{out} is there already, and nothing is overwritten. Name a folder that isn't there yet.")
    inside, around = out.resolve(), source.resolve()
    if around == inside or around in inside.parents:
        raise UsageError(f"{out} lies inside {source}, whose films it would join. Choose a folder outside of it.")
    if inside in around.parents:
        raise UsageError(f"{source} lies inside {out}. Choose another folder to write to.")


def _files(source: Path) -> list[Path]:
    if source.is_file():
        return [source]
    found = [Path(root) / name for root, _, names in os.walk(source) for name in names]
    files = sorted(path for path in found if path.is_file())
    if not files:
        raise UsageError(f"{source} holds no file. Name a folder of DICOM films.")
    return files


def _may_be_dicom(path: Path, outcome: Outcome) -> bool:
    """Whether a file begins as DICOM; one that doesn't is left out here, without a child."""
    try:
        with open(path, "rb") as stream:
            if is_dicom(stream.read(132)):
                return True
        outcome.left_out.append((path, "not-dicom", NOT_DICOM))
    except OSError as error:
        outcome.left_out.append((path, "unreadable", f"The file can't be read ({error.strerror})."))
    return False


def _take(outcome: Outcome, folder: Path, path: Path, result: Deidentified | DataError) -> None:
    if isinstance(result, DataError):
        outcome.left_out.append((path, getattr(result, "code", "unreadable"), str(result)))
        return
    doubt = _doubt(result)
    to = folder / (DOUBTFUL if doubt else FILMS) / result.patient / f"{result.sop_instance_uid}.dcm"
    if to.exists():
        same = to.read_bytes() == result.content
        reason = (
            "It is the same film as another file."
            if same
            else ("Another file has its SOP instance UID and other content; a person must look at both.")
        )
        outcome.left_out.append((path, "copy" if same else "same-uid-other-content", reason))
        return
    to.parent.mkdir(parents=True, exist_ok=True)
    to.write_bytes(result.content)
    outcome.films += 1
    outcome.patients.add(result.patient)
    outcome.burned_in[result.burned_in or "not recorded"] += 1
    outcome.fates.update(set(result.fates))
    outcome.doubtful += doubt
    outcome.text += [_told(result, line) for line in result.text]


def _doubt(result: Deidentified) -> bool:
    """A person should look: something may be text, or the film says that there is some and none was found."""
    return any(not line.sure for line in result.text) or (result.burned_in == "YES" and result.unmasked)


def _told(result: Deidentified, line: TextLine) -> dict[str, Any]:
    place = {name: getattr(line, name) for name in ("top", "left", "height", "width", "characters")}
    return {"film": result.sop_instance_uid, **place, "fate": "blackened" if line.sure else "look at it"}


def _write_report(folder: Path, outcome: Outcome, policy: Policy, pseudonyms: Pseudonyms) -> None:
    rows = fates_of(outcome)
    write_json(folder / REPORT, {**summary_of(outcome, policy), "key_id": pseudonyms.key_id, "attributes": rows})
    table = io.StringIO()
    writer = csv.DictWriter(table, ["tag", "keyword", "profile", "fate", "films"], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(folder / TABLE, table.getvalue())
    if policy.find_text:
        lines = io.StringIO()
        names = ["film", "top", "left", "height", "width", "characters", "fate"]
        writer = csv.DictWriter(lines, names, lineterminator="\n")
        writer.writeheader()
        writer.writerows(sorted(outcome.text, key=lambda one: (one["film"], one["top"], one["left"])))
        write_text(folder / TEXT, lines.getvalue())


def summary_of(outcome: Outcome, policy: Policy) -> dict[str, Any]:
    """What was done, as JSON values; names no file of the source."""
    options = ["113100"]
    options += ["113101"] if policy.masks or any(one["fate"] == "blackened" for one in outcome.text) else []
    options += ["113107"] if policy.shift_dates else []
    options += ["113108"] if policy.keep_patient else []
    return {
        "profile": "PS3.15 annex E, edition 2026c, and a closed list of attributes",
        "methods": {code: METHODS[code] for code in options},
        "manufacturer_kept": policy.keep_manufacturer,
        "films": outcome.films,
        "patients": len(outcome.patients),
        "burned_in_annotation": dict(sorted(outcome.burned_in.items())),
        "burned_in_text": DETECTION[policy.find_text],
        "text_lines": dict(sorted(Counter(one["fate"] for one in outcome.text).items())),
        "doubtful": outcome.doubtful,
        "left_out": dict(sorted(Counter(code for _, code, _ in outcome.left_out).items())),
    }


def fates_of(outcome: Outcome) -> list[dict[str, Any]]:
    """A row for each attribute and fate, by tag."""
    ordered: Sequence[tuple[Fate, int]] = sorted(outcome.fates.items(), key=lambda one: (one[0].tag, one[0].fate))
    return [
        {"tag": fate.tag, "keyword": fate.keyword, "profile": fate.profile, "fate": fate.fate, "films": films}
        for fate, films in ordered
    ]
