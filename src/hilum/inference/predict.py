"""Answers for many files: decode in sandboxed children, run in batches, write as it goes, resume where it stopped."""

import contextlib
import os
import time
import uuid
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from queue import SimpleQueue
from types import TracebackType
from typing import Self

from hilum.errors import DataError, FilmError, UsageError
from hilum.imaging.intended_use import GatePolicy
from hilum.imaging.sandbox import Sandbox
from hilum.inference.assess import MAX_BATCH, Assessor, open_bundle
from hilum.inference.assessment import Assessment
from hilum.inference.choosing import DEFAULT
from hilum.inference.machine import available_cpus
from hilum.inference.precision import FP32
from hilum.inference.preparing import Prepared, prepare_film
from hilum.inference.results import (
    HEATMAPS,
    PARQUET,
    REFUSED,
    TABLE,
    ResultsLog,
    write_parquet,
    write_refused,
    write_table,
)
from hilum.keys import PublicKey
from hilum.progress import Bar, Progress, Silent
from hilum.provenance import sha256_file

NOT_FILMS = (
    *(
        ".csv",
        ".db",
        ".gz",
        ".hilum",
        ".htm",
        ".html",
        ".ini",
        ".ipynb",
        ".json",
        ".jsonl",
        ".log",
        ".md",
        ".npy",
        ".npz",
    ),
    *(".onnx", ".parquet", ".pdf", ".py", ".safetensors", ".sh", ".svg", ".toml", ".tsv", ".txt", ".xls", ".xlsx"),
    *(".xml", ".yaml", ".yml", ".zip"),
)
"""Suffixes that are passed over inside folders; a file that is named itself is always tried."""


PRELOAD = ("hilum.inference.preparing", "hilum.imaging.lungs")
"""What a sandbox's children import before their limits count, when they run :func:`prepare_film`."""


UNWRITTEN = 2
"""Batches that may wait to be written while the next one runs."""

WALL_S = 60.0
"""How long one file may take; nobody waits for a batch, and a busy machine must not refuse a good film."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FilmFile:
    """A file to be answered."""

    name: str
    """What results call it: its path below the folder that was given, or its own name; its path where that is taken."""
    path: Path
    """Where it is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictSummary:
    """What became of the files."""

    files: int
    """Files found."""
    answered: int
    """Films with a label."""
    abstained: int
    """Films without a label, because the model is in doubt."""
    not_analysed: int
    """Films outside the intended use."""
    refused: int
    """Files that could not be read; ``refused.csv`` says why."""
    already: int
    """Films that this bundle had answered before, left as they were."""
    seconds: float
    """Wall time."""
    out: Path
    """Folder of the results."""

    @property
    def all_refused(self) -> bool:
        """Whether not a single file could be read, now or before."""
        return self.refused == self.files


def predict_files(
    bundle_path: Path | str,
    files: Sequence[Path | str],
    out: Path | str,
    *,
    heatmaps: bool = True,
    workers: int | None = None,
    threads: int | None = None,
    refuse_unknown: Sequence[str] = (),
    trusted: Sequence[PublicKey] = (),
    runtime: str = DEFAULT,
    precision: str = FP32,
    sandbox: Sandbox | None = None,
    progress: Progress | None = None,
) -> PredictSummary:
    """Answer files and whole folders. Run again after an interruption, it goes on with what is missing.

    Args:
        bundle_path: the model.
        files: files, or folders that are searched with everything below them.
        out: folder for ``results.jsonl``, ``results.csv``, ``results.parquet``, ``refused.csv`` and ``heatmaps/``.
        heatmaps: also write a picture (JPEG) of the likeliest abnormal finding of each analysed film.
        workers: processes that decode; None: one a processor.
        threads: threads of the runtime; None: one a processor.
        refuse_unknown: codes of the gate's checks whose "unknown" this site refuses, besides the bundle's own.
        trusted: keys of which one must have signed the bundle; empty when no signature is required.
        runtime: a key of :data:`hilum.inference.choosing.RUNTIMES`, or ``auto``.
        precision: fp32, or one that a gate let pass for this bundle on this machine.
        sandbox: an open one to decode in; None: one is started for as long as it takes.
        progress: where to report.

    Returns:
        counts. A bad file is counted and listed, never raised.

    Raises:
        UsageError: there is no file to answer, or no gate let the precision pass.
        BundleError: the bundle can't be trusted.
    """
    started, out = time.monotonic(), Path(out)
    found = list(find_films([Path(one) for one in files], leave_out=out))
    if not found:
        raise UsageError(
            f"No file to answer in {', '.join(str(one) for one in files)}. Give films or folders of films."
        )
    opened = open_bundle(bundle_path, threads, trusted=trusted, runtime=runtime, precision=precision)
    with opened as assessor, ResultsLog(out) as log:
        assessor.policy = _stricter(assessor.policy, refuse_unknown)
        todo = list(_unanswered(found, log.answered(assessor.sha256)))
        count = min(workers or available_cpus(), max(1, len(todo)))
        with contextlib.ExitStack() as stack:
            bar = stack.enter_context((progress or Silent()).bar("films", total=len(todo)))
            painters = stack.enter_context(ThreadPoolExecutor(available_cpus(), thread_name_prefix="paint"))
            writer = stack.enter_context(_Writer(assessor, log, out, painters if heatmaps else None))
            if todo:
                children = sandbox or stack.enter_context(Sandbox(count, wall_s=WALL_S, preload=PRELOAD))
                _answer_all(_prepare_all(children, todo, assessor, children.workers), writer, bar)
        write_table(log, out / TABLE)
        write_parquet(log, out / PARQUET)
    refused = sorted((name, error.code, str(error)) for name, error in writer.refused.items())
    write_refused(out / REFUSED, refused)
    return PredictSummary(
        files=len(found),
        answered=writer.outcomes["answered"],
        abstained=writer.outcomes["abstained"],
        not_analysed=writer.outcomes["not-analysed"],
        refused=len(refused),
        already=len(found) - len(todo),
        seconds=time.monotonic() - started,
        out=out,
    )


def _stricter(policy: GatePolicy, refuse_unknown: Sequence[str]) -> GatePolicy:
    return replace(policy, refuse_unknown=tuple(dict.fromkeys((*policy.refuse_unknown, *refuse_unknown))))


def find_films(given: Sequence[Path], *, leave_out: Path | None = None) -> Iterator[FilmFile]:
    """Files in a fixed order: those named, and those below folders that may be films.

    Hidden files, ``DICOMDIR``, known other formats (:data:`NOT_FILMS`), links to folders and the folder of the results
    are passed over. A film whose name another one has already, in a folder given before, is called by its path.
    """
    seen: set[Path] = set()
    names: set[str] = set()
    for one in given:
        below = _below(one, leave_out) if one.is_dir() else [FilmFile(name=one.name, path=one)]
        for film in below:
            where = film.path.absolute()
            if where not in seen:
                name = next(one for one in (film.name, film.path.as_posix(), where.as_posix()) if one not in names)
                seen.add(where)
                names.add(name)
                yield replace(film, name=name)


def _below(folder: Path, leave_out: Path | None) -> Iterator[FilmFile]:
    aside = leave_out.resolve() if leave_out is not None else None
    for root, folders, names in os.walk(folder):
        here = Path(root)
        folders[:] = sorted(one for one in folders if not one.startswith(".") and (here / one).resolve() != aside)
        for name in sorted(names):
            path = here / name
            other = name.startswith(".") or name == "DICOMDIR" or path.suffix.lower() in NOT_FILMS
            if not other and path.is_file():
                yield FilmFile(name=path.relative_to(folder).as_posix(), path=path)


def _unanswered(found: Iterable[FilmFile], answered: set[tuple[str, str]]) -> Iterator[FilmFile]:
    """Only a file whose name was answered is hashed: a first run reads nothing twice."""
    names = {name for name, _ in answered}
    for film in found:
        try:
            if film.name in names and (film.name, sha256_file(film.path)) in answered:
                continue
        except OSError:
            pass  # preparing it will say what is wrong with it
        yield film


_Outcome = tuple[FilmFile, Prepared | FilmError]


def _prepare_all(sandbox: Sandbox, films: Sequence[FilmFile], assessor: Assessor, workers: int) -> Iterator[_Outcome]:
    """Prepared films in the order of completion; never more than a few batches wait, so memory stays flat."""
    window = workers + 2 * MAX_BATCH
    rest = iter(films)
    waiting: dict[Future[Prepared], FilmFile] = {}
    # Waiting for the first of many futures asks each of them every time; here the one that is done says so.
    done: SimpleQueue[Future[Prepared]] = SimpleQueue()
    with ThreadPoolExecutor(workers, thread_name_prefix="prepare") as pool:
        while True:
            for film in islice(rest, window - len(waiting)):
                future = pool.submit(_prepare, sandbox, film, assessor)
                waiting[future] = film
                future.add_done_callback(done.put)
            if not waiting:
                return
            future = done.get()
            yield waiting.pop(future), _result(future)


def _prepare(sandbox: Sandbox, film: FilmFile, assessor: Assessor) -> Prepared:
    if not film.path.is_file():
        raise FilmError(f"{film.path} is not there, or no plain file. Check the path.", code="not-found")
    prepared: Prepared = sandbox.run(prepare_film, film.path, assessor.info.preprocessing, assessor.policy)
    return prepared


def _result(future: Future[Prepared]) -> Prepared | FilmError:
    try:
        return future.result()
    except FilmError as error:
        return error
    except DataError as error:
        return FilmError(str(error), code="unreadable")
    except Exception as error:  # whatever a decoder throws at one file must not stop the others
        # Only the kind: the text could quote the file's header.
        return FilmError(f"Reading failed in a way that was not foreseen ({type(error).__name__}).", code="unreadable")


def _answer_all(outcomes: Iterable[_Outcome], writer: "_Writer", bar: Bar) -> None:
    batch: list[tuple[FilmFile, Prepared]] = []
    for film, outcome in outcomes:
        if isinstance(outcome, FilmError):
            writer.refused[film.name] = outcome
            bar.advance(1, note=f"{len(writer.refused)} refused")
            continue
        batch.append((film, outcome))
        if len(batch) == MAX_BATCH:
            writer.answer(batch)
            bar.advance(len(batch))
            batch.clear()
    writer.answer(batch)
    bar.advance(len(batch))


class _Writer:
    """Runs batches, and writes what came out in a thread of its own while the next one runs; counts as it goes.

    A context manager: leaving it waits until all is written, and raises what went wrong there.
    """

    def __init__(self, assessor: Assessor, log: ResultsLog, out: Path, painters: ThreadPoolExecutor | None) -> None:
        self.assessor, self.log, self.out, self.painters = assessor, log, out, painters
        self.outcomes = {"answered": 0, "abstained": 0, "not-analysed": 0}
        self.refused: dict[str, FilmError] = {}
        self._hand = ThreadPoolExecutor(1, thread_name_prefix="write")
        self._unwritten: deque[Future[None]] = deque()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._hand:
            self._wait(0)

    def answer(self, batch: Sequence[tuple[FilmFile, Prepared]]) -> None:
        """Answer a batch and hand it over; never more than :data:`UNWRITTEN` batches wait to be written."""
        assessments = self.assessor.assess_prepared([prepared for _, prepared in batch])
        for assessment in assessments:
            self.outcomes[assessment.outcome] += 1
        self._wait(UNWRITTEN - 1)
        self._unwritten.append(self._hand.submit(self._write, [film.name for film, _ in batch], assessments))

    def _wait(self, most: int) -> None:
        while len(self._unwritten) > most:
            self._unwritten.popleft().result()

    def _write(self, names: Sequence[str], assessments: Sequence[Assessment]) -> None:
        """Lines are durable when this returns, and their pictures are there before them."""
        # Drawing and compressing pictures takes longer than all else here, and lets other threads run.
        paint = self.painters.map if self.painters is not None else map
        pictures = list(paint(self._picture, assessments))
        self.log.append(
            [
                {"file": name, "heatmap": picture, **assessment.to_json()}
                for name, picture, assessment in zip(names, pictures, assessments, strict=True)
            ]
        )

    def _picture(self, assessment: Assessment) -> str | None:
        finding = assessment.top_abnormal
        if self.painters is None or finding is None or assessment.cams is None:
            return None
        safe = "".join(letter if letter.isalnum() or letter == "-" else "_" for letter in finding)
        name = f"{HEATMAPS}/{assessment.film_sha256[:16]}-{safe}.jpg"
        _write_picture(self.out / name, assessment.heatmap(finding).jpeg(bar=True))
        return name


def _write_picture(path: Path, content: bytes) -> None:
    """Whole or not at all, but not synced: two syncs a film would take longer than the film itself.

    A killed process loses no picture that its line names; a power failure may. The answers themselves are synced.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{uuid.uuid4().hex}.part")
    try:
        temporary.write_bytes(content)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
