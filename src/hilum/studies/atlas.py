"""The atlas: all studies, one after the other, as one static site; what is finished is kept."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hilum.errors import HilumError
from hilum.files import write_text
from hilum.progress import Progress, Silent
from hilum.reports.figures import Figure
from hilum.reports.page import Card, Cards, Notice, Page, Paragraph, Section, render_page
from hilum.studies.bench import Budget, Request
from hilum.studies.running import run_request
from hilum.studies.table import STUDIES, Study

INTRODUCTION = (
    "Each study asks one question, measures it, and says what it found, in sentences computed from the measurements. "
    "The first line of every report names the data and the networks that were really measured."
)


def make_atlas(
    out: Path,
    *,
    data_dir: Path | None = None,
    budget: Budget = "quick",
    seed: int = 0,
    device: str = "auto",
    cache: Path | None = None,
    download: bool = True,
    progress: Progress | None = None,
    studies: Sequence[Study] = STUDIES,
) -> dict[str, Any]:
    """Run all studies into ``out/NAME`` and write ``out/index.html``, anew after each of them.

    A study that fails is told on the index, and the others go on. The same command keeps what is finished and goes on
    inside a study that was stopped.

    Args:
        out: folder of the site.
        data_dir: root of real data.
        budget: how much is done.
        seed: of all chance.
        device: ``auto``, ``cpu`` or ``cuda``.
        cache: folder for decoded images and downloads.
        download: whether data and weights may be downloaded.
        progress: where progress goes.
        studies: which ones.

    Returns:
        path, seconds, and for each study its state (``measured``, ``kept`` or ``failed``), seconds and reason.
    """
    progress = progress or Silent()
    started = time.perf_counter()
    states: list[dict[str, Any]] = []
    results: dict[str, Mapping[str, Any]] = {}
    out.mkdir(parents=True, exist_ok=True)
    with progress.bar("studies", len(studies)) as bar:
        for row in studies:
            request = Request(study=row.name, budget=budget, seed=seed, data_dir=str(data_dir or ""), device=device)
            folder = out / row.name
            kept = (folder / "result.json").exists()
            begun = time.perf_counter()
            state: dict[str, Any] = {"study": row.name, "state": "kept" if kept else "measured", "reason": ""}
            try:
                results[row.name] = run_request(request, folder, cache=cache, download=download, progress=progress)
            except HilumError as error:
                state |= {"state": "failed", "reason": str(error)}
            states.append({**state, "seconds": round(time.perf_counter() - begun, 1)})
            write_text(out / "index.html", render_page(_index(out, studies, states, results, budget, seed)))
            bar.advance(1, row.name)
    return {
        "path": str(out),
        "index": str(out / "index.html"),
        "seconds": round(time.perf_counter() - started, 1),
        "studies": states,
    }


def _index(
    out: Path,
    studies: Sequence[Study],
    states: Sequence[Mapping[str, Any]],
    results: Mapping[str, Mapping[str, Any]],
    budget: str,
    seed: int,
) -> Page:
    titles = {row.name: row.title for row in studies}
    failed = tuple(
        Notice(tone="red", text=f"{titles[state['study']]} could not be measured: {state['reason']}")
        for state in states
        if state["state"] == "failed"
    )
    cards = tuple(_card(out / row.name, results[row.name]) for row in studies if row.name in results)
    embedded = [card for card in cards if card.tone == "amber"]
    waiting = [row.title for row in studies if row.name not in {state["study"] for state in states}]
    lead = (
        f"{len(cards)} of {len(studies)} studies measured; {len(embedded)} of them on embedded data or with a stand-in."
    )
    notes = (Paragraph(f"Not measured yet: {'; '.join(waiting)}."),) if waiting else ()
    clinical = next((result["disclaimer"] for result in results.values() if result["disclaimer"]), "")
    return Page(
        title="An atlas of CNN studies",
        subtitle=f"Budget {budget}, seed {seed}",
        lead=lead,
        lead_tone="amber" if embedded else "note",
        notices=failed,
        sections=(Section(title="Studies", name="studies", blocks=(Paragraph(INTRODUCTION), Cards(cards), *notes)),),
        disclaimer=clinical,
        footer="hilum study atlas",
    )


def _card(folder: Path, result: Mapping[str, Any]) -> Card:
    return Card(
        title=result["title"],
        href=f"{folder.name}/report.html",
        question=result["question"],
        finding=result["finding"],
        figure=_key_figure(folder, result),
        note=f"{result['first_line']} ({result['seconds']:,.0f} s)",
        tone="amber" if result["embedded"] else "note",
    )


def _key_figure(folder: Path, result: Mapping[str, Any]) -> Figure | None:
    told = next((figure for figure in result["figures"] if figure["name"] == result["key_figure"]), None)
    if told is None:
        return None
    file = folder / "figures" / told["name"]
    return Figure(**told, png=file.with_suffix(".png").read_bytes(), svg=file.with_suffix(".svg").read_bytes())
