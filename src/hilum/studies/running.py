"""Run a study: from a request to a folder with report, figures, numbers and what they were computed with."""

import json
import os
import shlex
import shutil
import time
import webbrowser
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from hilum.config import to_mapping
from hilum.errors import RunError, UsageError, nearest
from hilum.files import replacing_directory, write_bytes, write_json, write_text
from hilum.progress import Progress, Silent
from hilum.provenance import environment, now_utc
from hilum.reports.page import Code, Notice, Page, Paragraph, Section, figures_of, render_page
from hilum.studies.bench import Bench, Budget, Request
from hilum.studies.outcome import Outcome, numbers_table
from hilum.studies.table import STUDIES, Study, study

CACHE = Path("~/.cache/hilum")
"""Where decoded images and downloads are kept when no folder is given."""


@dataclass(frozen=True, slots=True)
class Report:
    """A study's report page.

    Attributes:
        path: of the HTML file.
    """

    path: Path

    def open(self) -> None:
        """Show it in the browser."""
        webbrowser.open(self.path.resolve().as_uri())


@dataclass(frozen=True, slots=True)
class StudyResult:
    """A finished study.

    Attributes:
        folder: what it wrote.
        values: what ``result.json`` holds.
    """

    folder: Path
    values: Mapping[str, Any]

    @property
    def report(self) -> Report:
        """The report page."""
        return Report(self.folder / "report.html")


def run_study(
    name: str,
    *,
    data: str | Path = "auto",
    data_dir: str | Path | None = None,
    budget: Budget = "quick",
    seed: int = 0,
    weights: str | Path = "auto",
    backbone: str = "",
    image: str | Path | None = None,
    device: str = "auto",
    out: str | Path | None = None,
    cache: Path | None = None,
    download: bool = True,
    progress: Progress | None = None,
) -> StudyResult:
    """Run a study by name; the same as ``hilum study run``.

    Args:
        name: in the table of studies.
        data: ``auto``, the name of a set, or a folder.
        data_dir: root of real data.
        budget: how much is done.
        seed: of all chance.
        weights: ``auto``, ``imagenet``, ``hilum``, ``none``, or a .safetensors file.
        backbone: network of the zoo; the study's own when empty.
        image: a picture to explain; the study's own when None.
        device: ``auto``, ``cpu`` or ``cuda``.
        out: the study's folder; ``studies/NAME`` when None.
        cache: folder for decoded images and downloads.
        download: whether data and weights may be downloaded.
        progress: where progress goes.

    Raises:
        UsageError: a wrong argument.
        DataError: images that can't be used.
        WeightsError: weights that can't be had.
        RunError: the folder holds another study's result.
    """
    request = Request(
        study=study(name).name,
        budget=budget,
        seed=seed,
        data=str(data),
        data_dir=str(data_dir or ""),
        weights=str(weights),
        backbone=backbone,
        image=str(image or ""),
        device=device,
    )
    folder = Path(out) if out else Path("studies") / name
    values = run_request(request, folder, cache=cache, download=download, progress=progress)
    return StudyResult(folder, values)


def run_request(
    request: Request,
    out: Path,
    *,
    cache: Path | None = None,
    download: bool = True,
    progress: Progress | None = None,
    scale: object = None,
) -> dict[str, Any]:
    """Run a study into a folder; one that is finished there is not run again.

    The folder holds ``result.json`` (all numbers), ``report.html``, ``figures/`` (PNG and SVG), ``config.json`` and
    ``environment.json``. It appears whole or not at all; what is finished of a killed study waits beside it in
    ``.NAME.parts`` and is used by the same command.

    Args:
        request: what is asked for.
        out: the study's folder.
        cache: folder for decoded images and downloads.
        download: whether data and weights may be downloaded.
        progress: where progress goes.
        scale: how much is done; what the study's ``SCALES`` says for the budget when None.

    Returns:
        what ``result.json`` holds.

    Raises:
        UsageError: no such study or budget, or an option that this study has no use for.
        RunError: the folder holds another study's result, or other things.
    """
    row = study(request.study)
    _only_what_it_takes(row, request)
    request = replace(request, data_dir=_absolute(request.data_dir), image=_absolute(request.image))
    done = _finished(out, request)
    if done is not None:
        return done
    module = row.load()
    if scale is None:
        if request.budget not in module.SCALES:
            raise UsageError(f"There is no budget {request.budget!r}. {nearest(request.budget, list(module.SCALES))}")
        scale = module.SCALES[request.budget]
    bench = Bench(
        request=request,
        parts=out.parent / f".{out.name}.parts",
        cache=(cache or CACHE).expanduser(),
        progress=progress or Silent(),
        download=download,
    )
    started = time.perf_counter()
    outcome = module.run(bench, scale)
    seconds = time.perf_counter() - started
    result = _write(row, bench, outcome, out, seconds)
    shutil.rmtree(bench.parts, ignore_errors=True)
    return result


def _only_what_it_takes(row: Study, request: Request) -> None:
    """Refuse what the study would pass over: its numbers would be taken for those of the network that was named."""
    for name, usual in (("weights", "auto"), ("backbone", ""), ("image", "")):
        given = getattr(request, name)
        if given != usual and name not in row.takes:
            others = ", ".join(other.name for other in STUDIES if name in other.takes)
            raise UsageError(f"The study {row.name} has no use for --{name} {given}. Leave it out; it is for {others}.")


def _absolute(path: str) -> str:
    return str(Path(path).expanduser().resolve()) if path else ""


def _finished(out: Path, request: Request) -> dict[str, Any] | None:
    """The folder's result when it is this request's; None when there is nothing yet."""
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return None
    try:
        config = json.loads((out / "config.json").read_text())
        result: dict[str, Any] = json.loads((out / "result.json").read_text())
    except (OSError, ValueError):
        raise RunError(
            f"{out} exists and holds no finished study, so nothing is written there. Name another --out, or remove it."
        ) from None
    if config != to_mapping(request):
        differ = sorted(key for key, value in to_mapping(request).items() if config.get(key) != value)
        raise RunError(
            f"{out} holds a result of another request (other {', '.join(differ)}). Name another --out, or remove it."
        )
    return result


def first_line(bench: Bench) -> tuple[str, bool]:
    """The report's first line: which data and networks were measured; and whether any data are embedded."""
    embedded = [images for images in bench.sets if images.kind == "embedded"]
    data = " ".join(
        f"{'EMBEDDED' if images.kind == 'embedded' else 'REAL'} data: {images.description}" for images in bench.sets
    )
    networks = f" Networks: {'; '.join(bench.networks)}." if bench.networks else ""
    notes = "".join(f" {note}" for note in bench.notes)
    return f"{data}{networks}{notes}".strip() or "No images were measured: all numbers are computed.", bool(embedded)


_PATHS = ("data_dir", "image")


def command(request: Request) -> str:
    """The command that gives the numbers again, with paths as seen from the working folder."""
    words = ["hilum", "study", "run", request.study]
    plain = Request(study=request.study)
    for key, value in to_mapping(request).items():
        if key != "study" and value != getattr(plain, key):
            words += [f"--{key.replace('_', '-')}", os.path.relpath(value) if key in _PATHS else str(value)]
    return shlex.join(words)


def _write(row: Study, bench: Bench, outcome: Outcome, out: Path, seconds: float) -> dict[str, Any]:
    lead, embedded = first_line(bench)
    told = environment()
    result = {
        "study": row.name,
        "title": outcome.title or row.title,
        "question": row.question,
        "first_line": lead,
        "embedded": embedded or bool(bench.notes),
        "finding": outcome.finding,
        "numbers": [asdict(number) for number in outcome.numbers],
        "data": to_mapping(bench.sets),
        "networks": bench.networks,
        "notes": bench.notes,
        "budget": bench.budget,
        "seed": bench.seed,
        "command": command(bench.request),
        "seconds": round(seconds, 1),
        "created": now_utc(),
        "machine": f"{told['processor']}, {told['cpu_count']} CPUs, {bench.device.type}",
        "disclaimer": outcome.disclaimer,
        "figures": [],
        "measured": to_mapping(outcome.measured),
    }
    page = _page(row, result, outcome)
    figures = figures_of(page.sections)
    names = [figure.name for figure in figures]
    if len(set(names)) != len(names):
        raise RunError(
            f"Two figures of {row.name} have one name: {sorted(n for n in set(names) if names.count(n) > 1)}."
        )
    result["figures"] = [{"name": f.name, "title": f.title, "caption": f.caption, "alt": f.alt} for f in figures]
    result["key_figure"] = outcome.key_figure or (figures[0].name if figures else "")
    with replacing_directory(out) as folder:
        for figure in figures:
            write_bytes(folder / "figures" / f"{figure.name}.png", figure.png)
            write_bytes(folder / "figures" / f"{figure.name}.svg", figure.svg)
        write_text(folder / "report.html", render_page(page))
        write_json(folder / "config.json", to_mapping(bench.request))
        write_json(folder / "environment.json", {**told, "seed": bench.seed, "device": str(bench.device)})
        write_json(folder / "result.json", result)
    return result


def _page(row: Study, result: Mapping[str, Any], outcome: Outcome) -> Page:
    summary = Section(
        title="What was found",
        name="finding",
        blocks=(Paragraph(outcome.finding), numbers_table(outcome.numbers)),
    )
    notes = [note for data in result["data"] for note in data["notes"]]
    sources = tuple(Paragraph(f"{data['title']}: {data['source']}") for data in result["data"])
    made = Section(
        title="How it was made",
        name="made",
        blocks=(
            Code(result["command"]),
            Paragraph(
                f"Machine: {result['machine']}. Took {result['seconds']:,.0f} s. Budget {result['budget']}, seed "
                f"{result['seed']}. The same seed gives the same numbers on the CPU; times differ."
            ),
            *sources,
        ),
    )
    return Page(
        title=result["title"],
        subtitle=row.question,
        lead=result["first_line"],
        lead_tone="amber" if result["embedded"] else "note",
        notices=tuple(Notice(tone="note", text=note) for note in dict.fromkeys(notes)),
        sections=(summary, *outcome.sections, made),
        disclaimer=outcome.disclaimer,
        footer=f"hilum study {row.name}, {result['created']}",
    )
