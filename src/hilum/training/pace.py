"""What a training says of itself while it runs: loss, accuracy, films a second, what it waits for, and how long yet."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from hilum.progress import TOLD_LEFT

if TYPE_CHECKING:
    from hilum.training.engine import Loop
    from hilum.training.position import Position


def batch_note(loop: "Loop", at: "Position", batches: int) -> str:
    """One line about the epoch under way.

    Such as ``epoch 3/30 · batch 12/40 · loss 0.612, right 78% · 812 films/s · data 12% · 3:20 left at most``. *Data*
    is the share of the epoch's seconds that went into making batches, the rest is computed; *at most*, because early
    stopping may end the stage sooner.

    Args:
        loop: what is trained.
        at: where it is, between two batches.
        batches: number of batches of an epoch.
    """
    loss, accuracy = at.fitted.means()
    parts = [f"epoch {at.epoch + 1}/{loop.stage.epochs}", f"batch {at.batch}/{batches}"]
    if loss is not None:
        parts.append(f"loss {loss:.3f}, right {accuracy:.0%}")
    if at.batch:
        films = len(loop.fit) * at.batch / batches
        parts += [_speed(films / max(at.seconds, 1e-9)), f"data {at.data_s / max(at.seconds, 1e-9):.0%}"]
        parts.append(f"{clock(seconds_left(loop.stage.epochs, at, batches))} {TOLD_LEFT}")
    return " · ".join(parts)


def epoch_note(row: Mapping[str, Any]) -> str:
    """One line about a finished epoch, from its row of metrics."""
    parts = ["no film with a known label" if row["loss"] is None else f"loss {row['loss']:.3f}"]
    if row["watch_loss"] is not None:
        parts.append(f"watched {row['watch_loss']:.3f}, right {row['watch_accuracy']:.0%}")
    waiting = row["data_s"] / max(row["fit_s"], 1e-9)
    return " · ".join([*parts, _speed(row["films_per_s"]), f"data {waiting:.0%}"])


def seconds_left(epochs: int, at: "Position", batches: int) -> float:
    """Seconds until the last epoch ends, if none is saved: finished epochs as they were, or else the one under way.

    Args:
        epochs: of the stage.
        at: where it is.
        batches: number of batches of an epoch.
    """
    rows: Sequence[Mapping[str, Any]] = at.rows
    epoch = sum(row["seconds"] for row in rows) / len(rows) if rows else at.seconds * batches / max(at.batch, 1)
    return float(max(0.0, epoch * (epochs - at.epoch) - at.seconds))


def clock(seconds: float) -> str:
    """``0:05``, ``3:20`` or ``2:03:20``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def _speed(films_per_s: float) -> str:
    return f"{films_per_s:,.0f} films/s" if films_per_s >= 10 else f"{films_per_s:.2g} films/s"
