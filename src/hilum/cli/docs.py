"""``hilum docs``: the documents of a quality system, filled from artefacts."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hilum.cli.terminal import JsonOption, finish

if TYPE_CHECKING:
    from hilum.records.registry import Deployment

app = typer.Typer(name="docs", help="Documents of a quality system, filled from artefacts.", no_args_is_help=True)


@app.callback()
def docs() -> None:
    """Documents of a quality system, filled from artefacts. They are support, not clearance."""


@app.command()
def pack(
    bundle: Annotated[Path, typer.Argument(help="The model: a .hilum file or a bundle's folder.")],
    out: Annotated[Path, typer.Option(help="Folder to write.")] = Path("documents"),
    site: Annotated[Path | None, typer.Option(help="TOML file of what only the site can say.")] = None,
    plan: Annotated[Path | None, typer.Option(help="pccp.yaml.")] = None,
    scorecard: Annotated[Path | None, typer.Option(help="A run's scorecard (JSON).")] = None,
    monitor: Annotated[Path | None, typer.Option(help="monitor.json of hilum monitor report.")] = None,
    data: Annotated[Path | None, typer.Option(help="Folder of the records, for the registry.")] = None,
    strict: Annotated[bool, typer.Option("--strict", help="End with 1 when a field is missing.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Write eleven documents and an index; every field that nothing fills is listed.

    GMLP checklist (IMDRF N88), intended use, risk file, data sheet, model card, change control plan in FDA's three
    parts, HIPAA and GDPR, clinical evaluation, human factors, a training sheet, and the post-market plan. Support, not
    clearance.
    """
    import hilum
    from hilum.bundle.reading import read_bundle
    from hilum.change.pack import Artefacts, Site, read_json, read_site, write_pack
    from hilum.change.plan import read_plan
    from hilum.provenance import now_utc

    have = Artefacts(
        bundle=read_bundle(bundle),
        plan=read_plan(plan) if plan else None,
        scorecard=read_json(scorecard) if scorecard else {},
        monitor=read_json(monitor) if monitor else {},
        history=_history(data) if data else (),
        site=read_site(site) if site else Site(),
    )
    missing = write_pack(out, have, made=f"hilum {hilum.__version__} docs pack, {now_utc()}")
    lines = [f"{out / 'index.html'}: {len(missing)} fields missing"]
    lines += [f"  {one.document}: {one.source} ({one.item})" for one in missing]
    told = [{"document": one.document, "item": one.item, "field": one.source} for one in missing]
    finish({"path": str(out / "index.html"), "missing": told}, as_json=as_json, lines=lines)
    if strict and missing:
        raise typer.Exit(1)


def _history(data: Path) -> "tuple[Deployment, ...]":
    from hilum.cli.records import url_of
    from hilum.records.proving import reading
    from hilum.records.registry import rows_of

    with reading(url_of(data)) as session:
        return rows_of(session)


@app.command("site")
def site_file(
    out: Annotated[Path, typer.Argument(help="File to write.")] = Path("site.toml"), as_json: JsonOption = False
) -> None:
    """Write an empty site's file: the fields that only the site can fill."""
    from hilum.change.pack import site_template
    from hilum.errors import UsageError
    from hilum.files import write_bytes

    if out.exists():
        raise UsageError(f"{out} is there already, and is not overwritten. Choose another name.")
    write_bytes(out, site_template().encode())
    finish({"path": str(out)}, as_json=as_json)
