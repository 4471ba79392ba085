"""``hilum data``: films into a manifest, a look at what is odd about it, and an honest split."""

import shlex
from pathlib import Path
from typing import Annotated, Any

import typer

from hilum.cli.deidentify import deidentify
from hilum.cli.terminal import JsonOption, QuietOption, check_out, counted, finish, progress

app = typer.Typer(
    name="data",
    help="Films to a manifest; check it; split it; films without names.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

app.command("deidentify")(deidentify)

ManifestArgument = Annotated[Path, typer.Argument(help="A manifest, as hilum data import writes it.")]


@app.command("import")
def import_films(
    films: Annotated[
        Path,
        typer.Argument(metavar="FOLDER|CSV", help="A folder of films, with a labels.csv in it or without; or a table."),
    ],
    out: Annotated[Path, typer.Option("--out", help="The manifest to write, such as manifest.parquet.")],
    skip_bad_rows: Annotated[
        bool, typer.Option("--skip-bad-rows", help="Leave bad rows out, and say why, instead of refusing all.")
    ] = False,
    labels: Annotated[
        str, typer.Option("--labels", help="chest: map synonyms to the chest findings. any: take labels as they are.")
    ] = "chest",
    source: Annotated[
        str, typer.Option("--source", help="Hospital or collection of films for which none is recorded.")
    ] = "",
    keep: Annotated[list[str] | None, typer.Option("--keep", help="A further column of the table to keep.")] = None,
    trust_hashes: Annotated[
        bool, typer.Option("--trust-hashes", help="Open no film: take the table's SHA-256 (film_id, sha256) as it is.")
    ] = False,
    workers: Annotated[
        int | None, typer.Option("--workers", min=0, help="Processes; one a CPU when not given.")
    ] = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Read every film once and write the manifest; run again after an interruption, and it goes on from there."""
    from hilum.config import from_mapping
    from hilum.datasets.importing import ImportConfig, import_csv, import_folder

    check_out(out, "manifest.parquet")
    settings = {"skip_bad_rows": skip_bad_rows, "labels": labels, "source": source, "keep": tuple(keep or ())}
    settings["read_films"] = not trust_hashes
    config = from_mapping(ImportConfig, settings, where="import")
    cache = out.with_name(f".{out.stem}.facts.sqlite")
    read = import_folder if films.is_dir() else import_csv
    manifest, problems = read(films, config, cache=cache, workers=workers, progress=progress(quiet))
    manifest.write(out)
    by_label = ", ".join(f"{name} {films}" for name, films in _label_counts(manifest.strings("label")).items())
    left_out, tables = (manifest.notes["import"][key] for key in ("columns_left_out", "tables_passed_over"))
    lines = [f"left out: {problem}" for problem in problems]
    lines += [f"columns left out: {', '.join(left_out)} (keep one with --keep)"] if left_out else []
    if tables:
        lines.append(f"tables passed over, with their labels: {_few(tables)} (import a table by itself to use it)")
    lines += [f"{counted(len(manifest), 'film')} imported, {len(problems)} left out: {by_label}.", f"Written: {out}"]
    lines += _next(films, out, any(manifest.strings("label")))
    summary: dict[str, Any] = {
        "path": str(out),
        "films": len(manifest),
        "left_out": problems,
        "tables_passed_over": tables,
        "labels": _label_counts(manifest.strings("label")),
        "fingerprint": manifest.fingerprint,
    }
    finish(summary, as_json=as_json, lines=lines)


def _next(films: Path, out: Path, labelled: bool) -> list[str]:
    """What to do with a new manifest."""
    if labelled:
        return [f"next: hilum data check {shlex.quote(str(out))}"]
    where = f"a table {films / 'labels.csv'} with the columns image and label, or folders named as the findings"
    if not films.is_dir():
        where = f"a column label in {films}"
    again = shlex.join(["hilum", "data", "import", str(films), "--out", str(out)])
    return [f"No film has a label, and training needs them: give {where}.", f"next: {again}"]


def _few(names: list[str], most: int = 3) -> str:
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _label_counts(labels: list[str]) -> dict[str, int]:
    from collections import Counter

    return {name or "not recorded": films for name, films in sorted(Counter(labels).items())}


@app.command("check")
def check_manifest(manifest: ManifestArgument, as_json: JsonOption = False, quiet: QuietOption = False) -> None:
    """Say what is odd: label against source, view, age, sex and device; copies; gaps; missing files."""
    from hilum.datasets.checks import check
    from hilum.datasets.manifest import Manifest

    report = check(Manifest.read(manifest), progress=progress(quiet))
    finish({"path": str(manifest), **report.to_json()}, as_json=as_json, lines=report.lines())


@app.command("split")
def split_manifest(
    manifest: ManifestArgument,
    out: Annotated[Path, typer.Option("--out", help="The split manifest to write, such as split.parquet.")],
    by: Annotated[
        str, typer.Option("--by", help="patient, time (the latest films are the test) or source (one is the test).")
    ] = "patient",
    test_share: Annotated[float, typer.Option("--test-share", help="Share of films to lock away.")] = 0.2,
    folds: Annotated[int, typer.Option("--folds", help="Folds inside the rest.")] = 5,
    seed: Annotated[int, typer.Option("--seed", help="Another seed, another split.")] = 0,
    external_source: Annotated[
        str | None, typer.Option("--external-source", help="With --by source: the source to lock away.")
    ] = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Lock a test part away, make folds of the rest, and prove that they share no patient, film or copy."""
    from hilum.config import from_mapping, to_mapping
    from hilum.datasets.manifest import Manifest
    from hilum.datasets.split_report import report_of
    from hilum.datasets.splits import SplitConfig, split

    check_out(out, "manifest.parquet")
    settings = {"by": by, "test_share": test_share, "folds": folds, "seed": seed, "external_source": external_source}
    config = from_mapping(SplitConfig, settings, where="split")
    result = split(Manifest.read(manifest), config, progress=progress(quiet))
    result.write(out)
    report = report_of(result)
    finish({"path": str(out), **to_mapping(report)}, as_json=as_json, lines=[*report.lines(), f"Written: {out}"])
