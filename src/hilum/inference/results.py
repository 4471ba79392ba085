"""What ``hilum predict`` leaves behind: one JSON line a film, durable as soon as written, and tables made from them."""

import csv
import fcntl
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from hilum.config import canonical_json
from hilum.errors import DataError
from hilum.files import replacing, sync_directory

RESULTS, TABLE, PARQUET = "results.jsonl", "results.csv", "results.parquet"
REFUSED, HEATMAPS = "refused.csv", "heatmaps"


class ResultsLog:
    """``results.jsonl``: one canonical JSON object a line, appended; a line is durable when :meth:`append` returns.

    A line that a killed process left half-written is cut off when the log is opened again.

    Raises:
        DataError: another process writes it, or a whole line is not JSON.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / RESULTS
        self._handle = open(self.path, "ab")  # noqa: SIM115 - closed by the with block that this object is
        try:
            fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._handle.close()
            raise DataError(
                f"{self.path} is being written by another hilum predict. Wait for it, or choose another --out."
            ) from None
        _cut_torn_line(self.path)
        sync_directory(folder)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._handle.close()

    def append(self, lines: Sequence[Mapping[str, Any]]) -> None:
        """Write lines and sync them to disk, all with one sync."""
        if lines:
            self._handle.write("".join(canonical_json(line) + "\n" for line in lines).encode())
            self._handle.flush()
            os.fsync(self._handle.fileno())

    def answered(self, bundle_sha256: str) -> set[tuple[str, str]]:
        """File name and digest of the films that this very bundle has answered."""
        return {
            (line["file"], line["film_sha256"])
            for line in self.lines()
            if line["provenance"]["bundle_sha256"] == bundle_sha256
        }

    def lines(self) -> Iterator[Mapping[str, Any]]:
        """Every line, in the order of writing."""
        with open(self.path, encoding="utf-8") as handle:
            for number, text in enumerate(handle, start=1):
                try:
                    line = json.loads(text)
                    line["file"], line["film_sha256"], line["provenance"]["bundle_sha256"]
                except (ValueError, TypeError, KeyError):
                    raise DataError(
                        f"Line {number} of {self.path} is no result. Move the file away, or choose another folder."
                    ) from None
                yield line


def _cut_torn_line(path: Path) -> None:
    """Cut off what follows the last newline, reading from the end."""
    with open(path, "rb+") as handle:
        end = handle.seek(0, os.SEEK_END)
        keep, step = end, 1 << 16
        while keep:
            start = max(0, keep - step)
            handle.seek(start)
            newline = handle.read(keep - start).rfind(b"\n")
            if newline >= 0:
                keep = start + newline + 1
                break
            keep = start
        if keep != end:
            handle.truncate(keep)
            os.fsync(handle.fileno())


def write_table(log: ResultsLog, path: Path) -> int:
    """``results.csv``: one row a line of the log; returns the number of rows. Lines pass by one at a time."""
    findings = _findings(log)
    header = [
        *("file", "film_sha256", "outcome", "label", "positive", "risk"),
        *(f"prob.{name}" for name in findings),
        *(f"mc_std.{name}" for name in findings),
        *("mutual_information", "ood_distance", "reasons", "bundle", "bundle_sha256", "answered_at", "notice"),
    ]
    return _write_csv(path, header, (_row(line, findings) for line in log.lines()))


def write_parquet(log: ResultsLog, path: Path, *, group: int = 1000) -> int:
    """``results.parquet``: the same columns with their types, and lists where the CSV joins words.

    Args:
        log: what was answered.
        path: where it goes, whole or not at all.
        group: rows that are in memory at a time.

    Returns:
        the number of rows.
    """
    import pyarrow as pa
    from pyarrow import parquet

    findings = _findings(log)
    text, number, words = pa.string(), pa.float64(), pa.list_(pa.string())
    columns = {
        **dict.fromkeys(("file", "film_sha256", "outcome", "label"), text),
        **{"positive": words, "risk": number},
        **{f"{kind}.{name}": number for kind in ("prob", "mc_std") for name in findings},
        **{"mutual_information": number, "ood_distance": number, "reasons": words},
        **dict.fromkeys(("bundle", "bundle_sha256", "answered_at", "notice", "heatmap"), text),
    }
    schema, written = pa.schema(list(columns.items())), 0
    lines = log.lines()
    with replacing(path) as temporary, parquet.ParquetWriter(temporary, schema) as writer:
        while rows := [
            dict(zip(columns, (*_row(line, findings, joined=False), line["heatmap"]), strict=True))
            for line in islice(lines, group)
        ]:
            writer.write_table(pa.Table.from_pylist(rows, schema=schema))
            written += len(rows)
    return written


def _findings(log: ResultsLog) -> list[str]:
    """Findings of every line, in the order of their first appearance: bundles of one folder may differ."""
    return list(dict.fromkeys(name for line in log.lines() for name in line["findings"]))


def _row(line: Mapping[str, Any], findings: Sequence[str], *, joined: bool = True) -> list[object]:
    doubt, made = line["uncertainty"], line["provenance"]
    return [
        *(line["file"], line["film_sha256"], line["outcome"], line["label"]),
        *("; ".join(line["positive"]) if joined else line["positive"], line["risk"]),
        *(line["probs"].get(name) for name in findings),
        *(doubt["mc_std"].get(name) for name in findings),
        *(doubt["mutual_information"], doubt["ood_distance"]),
        " ".join(line["reasons"]) if joined else line["reasons"],
        *(
            f"{made['bundle_name']} {made['bundle_version']}",
            made["bundle_sha256"],
            made["answered_at"],
            line["notice"],
        ),
    ]


def write_refused(path: Path, refused: Iterable[tuple[str, str, str]]) -> None:
    """``refused.csv``: file, code and reason of each file that could not be read."""
    _write_csv(path, ["file", "code", "reason"], refused)


def _write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> int:
    written = 0
    with replacing(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as target:
        writer = csv.writer(target, lineterminator="\n")
        writer.writerow([_cell(name) for name in header])
        for row in rows:
            writer.writerow([_cell(value) for value in row])
            written += 1
    return written


def _cell(value: object) -> object:
    """A text that a spreadsheet would take for a formula is given an apostrophe; numbers stay numbers."""
    if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r"):
        return "'" + value
    return "" if value is None else value
