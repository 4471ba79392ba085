"""Runs below a folder, read without torch: which are finished, which stopped where, and which are damaged."""

import contextlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from hilum.errors import RunError
from hilum.runs.layout import RunFolder

State = Literal["finished", "unfinished", "damaged"]
"""``unfinished`` is a training under way as well as one that was stopped; its last sign of life tells them apart."""

DEPTH = 3
"""Folders below the given one that are looked into."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a member's training is, between two batches."""

    stage: str
    """Name of the stage."""
    epoch: int
    """Epoch under way, from 1."""
    epochs: int
    """Most epochs of the stage."""
    batch: int
    """Batches of that epoch that are done."""

    def text(self) -> str:
        """``stage head, epoch 7 of 30, after 12 batches``."""
        after = f", after {self.batch} batches" if self.batch else ""
        return f"stage {self.stage}, epoch {self.epoch} of {self.epochs}{after}"


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberFacts:
    """What a member's folder tells."""

    number: int
    """Of the member, from 0."""
    trained: bool
    """Whether its final weights are there."""
    rows: tuple[Mapping[str, Any], ...]
    """Its rows of metrics, one an epoch."""
    stages: tuple[Mapping[str, Any], ...]
    """A summary of each finished stage: name, frozen_layers, cached, epochs, best_epoch, best_loss, seconds."""
    place: Place | None
    """Where its checkpoint is; None before the first one, and when the member is trained."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFacts:
    """What a run's folder tells."""

    path: Path
    """The folder."""
    state: State
    """Finished, unfinished or damaged."""
    sentence: str
    """What is so, where, and the mend."""
    config: Mapping[str, Any]
    """Its config as plain values; empty when that is what is damaged."""
    result: Mapping[str, Any]
    """Its result as plain values; empty unless it is finished."""
    members: tuple[MemberFacts, ...]
    """Its members, those that have not begun as well."""
    written: float
    """When a file of it was last written, in seconds since 1970."""

    @property
    def trained(self) -> int:
        """Number of members whose final weights are there."""
        return sum(member.trained for member in self.members)

    @property
    def rows(self) -> list[Mapping[str, Any]]:
        """All rows of metrics, each with its member."""
        return [{"member": member.number, **row} for member in self.members for row in member.rows]

    @property
    def watched_accuracy(self) -> float | None:
        """Mean over members of the accuracy on watched films, 0 … 1, in the epochs whose weights were kept."""
        kept = [row["watch_accuracy"] for m in self.members if (row := kept_row(m.rows)) is not None]
        return sum(kept) / len(kept) if kept else None


def kept_row(rows: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """The row of the epoch whose weights were kept: the last best one of the last stage; None without watched films."""
    last = [row for row in rows if row.get("stage") == rows[-1].get("stage")]
    best = [row for row in last if row.get("best") and row.get("watch_accuracy") is not None]
    return best[-1] if best else None


def find_runs(root: Path) -> list[RunFacts]:
    """Every run in a folder or below it, hidden folders aside, in the order of their paths.

    Args:
        root: a run's folder, or one that holds runs.

    Raises:
        RunError: there is no such folder.
    """
    if not Path(root).is_dir():
        raise RunError(f"{root} is not a folder. Name one that holds runs (hilum train --out makes one).")
    return [read_run(folder) for folder in _run_folders(Path(root), DEPTH)]


def _run_folders(folder: Path, depth: int) -> list[Path]:
    if is_run(folder):
        return [folder]
    below = sorted(child for child in folder.iterdir() if child.is_dir() and not child.name.startswith("."))
    return [found for child in below for found in _run_folders(child, depth - 1)] if depth else []


def is_run(path: Path) -> bool:
    """Whether a folder holds a run: a config with films, or members whose config can't be read."""
    folder = RunFolder(Path(path))
    try:
        told = json.loads(folder.config.read_text())
    except (OSError, ValueError):
        return (folder.root / "members").is_dir()
    return isinstance(told, dict) and {"config", "films"} <= told.keys()


def read_run(path: Path) -> RunFacts:
    """A run's folder as it is.

    Raises:
        RunError: there is no run.
    """
    folder = RunFolder(Path(path))
    if not is_run(folder.root):
        raise RunError(f"{path} holds no run. hilum runs list FOLDER shows those below a folder.")
    written = _last_written(folder.root)
    try:
        config = _config(folder)
        result = folder.read(folder.result) if folder.result.exists() else {}
        members = tuple(_member(folder, number, config) for number in range(config["folds"] * config.get("seeds", 1)))
        problem = _problem(folder, result, members)
    except RunError as error:
        return RunFacts(
            path=folder.root, state="damaged", sentence=str(error), config={}, result={}, members=(), written=written
        )
    state: State = "damaged" if problem else "finished" if result else "unfinished"
    sentence = problem or ("All members are trained and calibrated." if result else _stopped(members))
    return RunFacts(
        path=folder.root,
        state=state,
        sentence=sentence,
        config=config,
        result=result,
        members=members,
        written=written,
    )


def _config(folder: RunFolder) -> dict[str, Any]:
    config: Any = folder.read(folder.config)["config"]
    if not isinstance(config, dict) or not isinstance(config.get("folds"), int):
        raise RunError(f"{folder.config} is damaged (no number of folds). Restore it, or train into another folder.")
    return config


def _member(folder: RunFolder, number: int, config: Mapping[str, Any]) -> MemberFacts:
    home = folder.member(number)
    checkpoint = home / "checkpoint.safetensors"
    facts = _checkpoint_facts(checkpoint) if checkpoint.exists() else {}
    trained = folder.weights(number).exists()
    return MemberFacts(
        number=number,
        trained=trained,
        rows=_rows(home / "metrics.jsonl"),
        stages=tuple(facts.get("summaries", ())),
        place=None if trained or not facts else _place(facts, config),
    )


def _checkpoint_facts(path: Path) -> dict[str, Any]:
    """What a checkpoint says beside its tensors, from its head alone.

    Raises:
        RunError: it can't be read.
    """
    try:
        with open(path, "rb") as handle:
            length = int.from_bytes(handle.read(8), "little")
            if length > os.fstat(handle.fileno()).st_size:
                raise ValueError("its head is longer than the file")
            facts: dict[str, Any] = json.loads(json.loads(handle.read(length))["__metadata__"]["hilum"])
            return facts
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(
            f"Checkpoint {path} can't be read ({error}). Remove it to train that member anew with the same command."
        ) from None


def _place(facts: Mapping[str, Any], config: Mapping[str, Any]) -> Place | None:
    stages, at = config["recipe"]["stages"], facts["position"]
    if facts["stage"] >= len(stages):
        return None
    stage = stages[facts["stage"]]
    return Place(stage=stage["name"], epoch=at["epoch"] + 1, epochs=stage["epochs"], batch=at["batch"])


def _rows(path: Path) -> tuple[Mapping[str, Any], ...]:
    """Rows of metrics; a last line that a killed process left half written is left out.

    Raises:
        RunError: another line is damaged.
    """
    lines = path.read_text(errors="replace").split("\n") if path.exists() else [""]
    try:
        return tuple(json.loads(line) for line in lines[:-1])
    except ValueError as error:
        raise RunError(f"{path} is damaged ({error}). Remove the run's folder and train again.") from None


def _problem(folder: RunFolder, result: Mapping[str, Any], members: Sequence[MemberFacts]) -> str:
    """What is wrong with a run that says it is finished; empty when nothing is."""
    missing = [folder.weights(member.number) for member in members if not member.trained]
    if result and missing:
        return f"The run says it is finished, but {missing[0]} is missing. Restore it, or train into another folder."
    return ""


def _stopped(members: Sequence[MemberFacts]) -> str:
    """Where an unfinished run is, and how it goes on."""
    mend = "the same hilum train command goes on there."
    current = next((member for member in members if not member.trained), None)
    if current is None:
        return f"All {len(members)} members are trained, but not calibrated yet: {mend}"
    of = f"member {current.number + 1} of {len(members)}"
    if current.place is not None:
        return f"It is at {of}, {current.place.text()}: {mend}"
    if current.rows:
        row = current.rows[-1]
        return f"It is at {of}, behind epoch {row['epoch']} of stage {row['stage']}, without a checkpoint yet: {mend}"
    return f"It is before the first epoch of {of}: {mend}"


def _last_written(root: Path) -> float:
    """When a file of the run was last written."""
    times = [root.stat().st_mtime]
    for file in root.rglob("*"):
        with contextlib.suppress(FileNotFoundError):  # replaced by a training under way
            times.append(file.stat().st_mtime)
    return max(times)
