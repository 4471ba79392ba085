"""``hilum serve``: the reading room on one bundle."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hilum.cli.terminal import TrustedOption

if TYPE_CHECKING:
    from hilum.service.settings import Settings


def serve(
    bundle: Annotated[Path, typer.Argument(help="The model: a .hilum file or a bundle's folder.")],
    host: Annotated[str | None, typer.Option(help="Address to listen on.", show_default="127.0.0.1")] = None,
    port: Annotated[int | None, typer.Option(help="Port of REST and page; 0: a free one.", show_default="8042")] = None,
    dicom_port: Annotated[
        int | None, typer.Option(help="Port of the DICOM listener; 0: a free one.", show_default="11112")
    ] = None,
    no_dicom: Annotated[bool, typer.Option("--no-dicom", help="No DICOM listener.")] = False,
    ae_title: Annotated[str | None, typer.Option(help="Our AE title.", show_default="HILUM")] = None,
    allow: Annotated[str | None, typer.Option(help="Calling AE titles that may send, comma-separated.")] = None,
    runtime: Annotated[str | None, typer.Option(help="What runs the model.", show_default="onnxruntime")] = None,
    precision: Annotated[
        str | None, typer.Option(help="fp32, or bf16 where hilum bundle gate let it pass.", show_default="fp32")
    ] = None,
    trusted: TrustedOption = None,
    check: Annotated[bool, typer.Option("--check", help="Look whether it would start and be well, then end.")] = False,
    tls_certificate: Annotated[Path | None, typer.Option(help="PEM file: encrypt REST and page.")] = None,
    tls_key: Annotated[Path | None, typer.Option(help="PEM file of the certificate's key.")] = None,
    data: Annotated[Path | None, typer.Option(help="Folder of films and records.", show_default="hilum-data")] = None,
) -> None:
    """Answer films over REST, page and DICOM until Ctrl-C, which finishes what is in work.

    Who comes in needs a user or a key (hilum users). Further settings come from HILUM_… in the environment
    (hilum.service.settings lists them). Assistive, not for diagnosis.
    """
    import gc

    # Imports make objects that stay: collecting between them costs a tenth of the start and finds nothing.
    gc.disable()
    from hilum.service.app import serve as serve_bundle
    from hilum.service.settings import read_settings

    given = {
        "bundle": bundle,
        "host": host,
        "port": port,
        "dicom_port": dicom_port,
        "ae_title": ae_title,
        "allowed_ae_titles": allow,
        "data": data,
        "tls_certificate": tls_certificate,
        "tls_key": tls_key,
        "runtime": runtime,
        "precision": precision,
        "trusted_keys": tuple(trusted) if trusted else None,
    }
    gc.enable()
    settings = read_settings(without_dicom=no_dicom, **given)
    if check:
        _check(settings)
        return
    serve_bundle(settings, said=lambda line: print(line, flush=True))


def _check(settings: "Settings") -> None:
    from hilum.service.checking import check_service
    from hilum.service.versions import versions

    print(", ".join(f"{part} {version}" for part, version in versions(settings).items()))
    found = check_service(settings)
    for part, outcome in found.items():
        print(f"{part}: {outcome}")
    if any(outcome.split(",")[0] != "ok" for outcome in found.values()):
        raise typer.Exit(1)
