"""``hilum bundle``: make, sign and verify a bundle, and show what it says of itself."""

import os
from pathlib import Path
from typing import Annotated

import typer

from hilum.cli.terminal import (
    PASSPHRASE,
    JsonOption,
    QuietOption,
    RuntimeOption,
    ServiceAuthorities,
    TrustedOption,
    finish,
    progress,
    service_key,
    table,
    trusted_keys,
)

app = typer.Typer(name="bundle", help="Make, sign, verify and show bundles.", no_args_is_help=True)

BundleArgument = Annotated[Path, typer.Argument(metavar="BUNDLE", help="A .hilum file or a bundle's folder.")]


@app.command()
def create(
    run: Annotated[Path, typer.Argument(help="A finished run's folder.")],
    out: Annotated[Path, typer.Option(help="….hilum for one file, any other name for a folder.")],
    name: Annotated[str, typer.Option(help="Name of the model.")] = "chest",
    version: Annotated[str | None, typer.Option(help="Its version.", show_default="from the weights")] = None,
    stated: Annotated[
        Path | None,
        typer.Option(help="TOML with what no artefact knows, for the model card: developer, funding and the like."),
    ] = None,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Export a run as a bundle: graph, calibration, operating points, references, model card, hashes."""
    from hilum.bundle.card import read_stated
    from hilum.bundle.reading import read_bundle
    from hilum.runs.package import package
    from hilum.runs.run import Run

    said = None if stated is None else read_stated(stated)
    package(Run.open(run), out, name=name, version=version, stated=said, progress=progress(quiet))
    opened = read_bundle(out)
    summary = {"path": str(out), "bundle": f"{name} {opened.info.version}", "sha256": opened.sha256}
    finish(summary, as_json=as_json, lines=[f"bundle: {out}", f"digest: {opened.sha256}", f"next: hilum serve {out}"])


@app.command()
def sign(
    bundle: BundleArgument,
    key: Annotated[Path, typer.Option(help="Private key, as hilum keys create makes it.")],
    as_json: JsonOption = False,
) -> None:
    """Vouch for a bundle: an Ed25519 signature over its members' hashes, in place of one that it had.

    The passphrase of an encrypted key is read from HILUM_KEY_PASSPHRASE.
    """
    from hilum.bundle.writing import sign_bundle
    from hilum.keys import read_private_key

    opened = read_private_key(key, passphrase=os.environ.get(PASSPHRASE))
    signed = sign_bundle(bundle, opened)
    signer = opened.public.id
    summary = {"path": str(bundle), "sha256": signed.sha256, "signer": signer}
    finish(summary, as_json=as_json, lines=[f"signed: {bundle} ({signed.sha256[:12]}…) by key {signer}"])


@app.command()
def verify(
    bundle: BundleArgument,
    trusted: TrustedOption = None,
    runtime: RuntimeOption = "onnxruntime",
    as_json: JsonOption = False,
) -> None:
    """Check every hash and the signature, then reproduce the reference answers on this machine; refuse any change."""
    from hilum.errors import BundleError
    from hilum.inference.selftest import verify_bundle

    test = verify_bundle(bundle, trusted=(keys := trusted_keys(trusted)), runtime=runtime)
    rows = [[name, f"{value:.2e}"] for name, value in test.differences.items()]
    lines = [
        *table(["output", "largest difference"], rows),
        f"{test.bundle} ({test.sha256[:12]}…): {test.films} reference tiles on {test.runtime} {test.precision}, "
        f"tolerance {test.tolerance:g}",
    ]
    if not test.passed:
        print("\n".join(lines))
        raise BundleError(
            f"{bundle} is unchanged, but {test.worst} differs by {test.differences[test.worst]:.2e} on this machine, "
            f"more than {test.tolerance:g}. Don't use it here; say which processor and runtime this is."
        )
    summary = {
        "path": str(bundle),
        "bundle": test.bundle,
        "sha256": test.sha256,
        "verified": True,
        "films": test.films,
        "runtime": test.runtime,
        "precision": test.precision,
        "tolerance": test.tolerance,
        "differences": test.differences,
        "signer": test.signer,
        "trusted": test.signer is not None and bool(keys),
    }
    signed = "unsigned" if test.signer is None else f"signed by key {test.signer}"
    judged = "which is trusted" if keys else "which nobody was asked to trust (--trusted)"
    lines.append(f"signature: {signed}" + (f", {judged}" if test.signer else ""))
    lines.append(f"verified: {bundle} is whole, unchanged, and answers as it should")
    finish(summary, as_json=as_json, lines=lines)


@app.command()
def card(
    bundle: BundleArgument,
    html: Annotated[bool, typer.Option("--html/--markdown", help="As one HTML page, or as Markdown.")] = False,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="File to write.", show_default="printed")] = None,
    trusted: TrustedOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write a bundle's model card: the fields of the CHAI Applied Model Card, from the bundle's artefacts.

    What no artefact says and nobody stated (hilum bundle create --stated FILE) reads "not stated".
    """
    from hilum.bundle.card_text import card_in, render_card_page
    from hilum.bundle.reading import read_bundle
    from hilum.files import write_text

    opened = read_bundle(bundle, trusted=trusted_keys(trusted))
    signer = None if opened.signer is None else opened.signer.id
    text = render_card_page(card_in(opened), digest=opened.sha256, signer=signer) if html else opened.card
    lines = text.splitlines()
    if out is not None:
        write_text(out, text)
        lines = [f"model card: {out}"]
    summary = {"path": None if out is None else str(out), "sha256": opened.sha256, "html": html}
    finish(summary, as_json=as_json, lines=lines)


@app.command()
def gate(
    bundle: BundleArgument,
    films: Annotated[Path, typer.Option(help="Manifest of labelled films that the model was not trained on.")],
    precision: Annotated[str, typer.Option(metavar="NAME", help="What to try: bf16.")] = "bf16",
    threads: Annotated[int | None, typer.Option(min=1, help="Threads of a runtime. [default: processors]")] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes that decode. [default: processors]")] = None,
    repeats: Annotated[int, typer.Option(min=3, help="Turns in which the speed is timed.")] = 30,
    record: Annotated[
        Path | None,
        typer.Option(help="Where the result is kept.", show_default="~/.config/hilum/precision.json"),
    ] = None,
    trusted: TrustedOption = None,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Show whether a lower precision may answer here: what it costs beside fp32 on labelled films, and what it gains.

    It passes when no finding's AUROC drops by more than 0.002 (upper end of its 95 % interval), sensitivity at the
    operating points and heat maps stay, and one film is answered 1.3 × faster than by the fastest fp32.
    """
    from hilum.bundle.reading import read_bundle
    from hilum.datasets.manifest import Manifest
    from hilum.errors import UsageError
    from hilum.evaluation.estimates import to_plain
    from hilum.inference.gate import run_gate
    from hilum.inference.precision import BF16, gates_path, record_gate

    if precision != BF16:
        raise UsageError(f"{precision!r} can't be gated. Give bf16; fp32 needs no gate.")
    opened = read_bundle(bundle, trusted=trusted_keys(trusted))
    manifest = Manifest.read(films, thumbs=False)
    found = run_gate(
        opened,
        manifest,
        precision=precision,
        threads=threads,
        workers=workers,
        repeats=repeats,
        progress=progress(quiet),
    )
    where = record or gates_path()
    record_gate(found.record(), where)
    summary = {"path": str(where), "passed": found.passed, "films_needed": found.films_needed, **to_plain(found)}
    finish(summary, as_json=as_json, lines=[*found.lines(), f"recorded: {where}"])
    if not found.passed:
        raise typer.Exit(1)


@app.command()
def show(
    bundle: BundleArgument,
    card: Annotated[bool, typer.Option("--card", help="Print the model card instead.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Print what a bundle says of itself: labels, preprocessing, thresholds, provenance, members."""
    from hilum.bundle.reading import read_bundle
    from hilum.bundle.schema import calibration_of
    from hilum.config import to_mapping

    opened = read_bundle(bundle)
    info = opened.info
    summary = {
        "path": str(bundle),
        "sha256": opened.sha256,
        "bytes": sum(member.bytes for member in opened.members.values()),
        **{name: value for name, value in to_mapping(info).items() if name not in ("ood", "drift")},
        "ood_threshold": None if info.ood is None else info.ood.threshold,
        "drift_films": None if info.drift is None else info.drift.films,
        "signer": None if opened.signer is None else opened.signer.id,
        "members_listed": {name: member.sha256 for name, member in opened.members.items()},
    }
    lines = [
        f"{info.name} {info.version}, made {info.created}; assistive, not for diagnosis",
        f"digest: {opened.sha256}",
        f"signature: {'none' if opened.signer is None else 'by key ' + opened.signer.id}",
        f"intended use: {info.intended_use}",
        f"findings: {', '.join(info.findings)} (members: {info.members})",
        f"calibration: {calibration_of(info)}",
        f"positive from: {', '.join(f'{k} {v:.3f}' for k, v in info.thresholds.items()) or 'not stated'}",
        f"preprocessing: {to_mapping(info.preprocessing)}",
        "",
        *table(["member", "bytes", "sha256"], [[n, m.bytes, m.sha256[:16]] for n, m in sorted(opened.members.items())]),
    ]
    finish(summary, as_json=as_json, lines=opened.card.splitlines() if card else lines)


@app.command()
def activate(
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE.hilum", help="The bundle, as one file.")],
    reason: Annotated[str, typer.Option(help="Why, in one sentence; it stands in the audit.")],
    past_plan: Annotated[
        bool, typer.Option("--past-plan", help="Also past a change control plan in force; shown and recorded as that.")
    ] = False,
    at: Annotated[
        str, typer.Option("--url", "--at", metavar="URL", help="Address of the service.")
    ] = "http://127.0.0.1:8042",
    ca: ServiceAuthorities = None,
    as_json: JsonOption = False,
) -> None:
    """Put a bundle into production of a running service, without a film lost; a bad one changes nothing.

    A key with models:write is read from HILUM_API_KEY. hilum change asks for evidence and approvals before: once it
    was used, this is refused without --past-plan.
    """
    from hilum.client.api import Client
    from hilum.errors import UsageError

    key = service_key("models:write")
    if not bundle.is_file():
        raise UsageError(f"{bundle} is no file. Give a bundle as one .hilum file: hilum bundle create --out X.hilum.")
    with Client(at, key=key, ca=ca) as client:
        digest = client.send_model(bundle)
        now = client.activate(digest, reason, past_plan=past_plan)
    finish({"sha256": digest, "model": now}, as_json=as_json, lines=[f"{now} ({digest[:12]}) is in production"])
