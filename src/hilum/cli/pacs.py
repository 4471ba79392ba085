"""``hilum pacs``: try a PACS out, see what it has of a patient, fetch missing films, look after look-ups of priors."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hilum.cli.records import DataOption
from hilum.cli.terminal import JsonOption, counted, finish, table

if TYPE_CHECKING:
    from hilum.service.dicom.pacs import Pacs

app = typer.Typer(name="pacs", help="The PACS that earlier and missing films come from.", no_args_is_help=True)
HERE = Path("hilum-data")

PacsOption = Annotated[
    str,
    typer.Option(
        "--pacs",
        envvar="HILUM_PACS",
        help="NAME=dicom://AETITLE@HOST:PORT, or dicoms://… with TLS.",
        show_default=False,
    ),
]
TitleOption = Annotated[str, typer.Option(envvar="HILUM_AE_TITLE", help="Our AE title.")]
AuthoritiesOption = Annotated[
    Path | None, typer.Option(envvar="HILUM_RESULTS_CA", help="PEM file of who may have signed its certificate.")
]
CertificateOption = Annotated[
    Path | None, typer.Option(envvar="HILUM_RESULTS_CERTIFICATE", help="PEM file of our certificate and its key.")
]


@app.callback()
def pacs() -> None:
    """The PACS that earlier and missing films come from.

    It is the one of HILUM_PACS unless --pacs names another. What find prints is for whoever asks: it goes into no log.
    """


@app.command()
def echo(
    at: PacsOption = "",
    ae_title: TitleOption = "HILUM",
    ca: AuthoritiesOption = None,
    certificate: CertificateOption = None,
    as_json: JsonOption = False,
) -> None:
    """Ask by C-ECHO whether it is there, and say which services it offers to our AE title, and if it answers a query.

    The query is for a study that nobody has: some offer C-FIND to every caller, and answer those alone whom they know.
    """
    from hilum.service.dicom.pacs import try_a_query, what_it_takes
    from hilum.service.dicom.unfetched import Unfetched

    reached = _reached(at, ae_title, ca, certificate)
    takes, why_not = what_it_takes(reached), ""
    words = {True: "yes", False: "no"}
    lines = [f"{name}: {words[takes[key]]}" for key, name in NAMES.items()]
    if takes["find"]:
        try:
            try_a_query(reached)
        except Unfetched as error:
            why_not = str(error)
        lines.insert(2, f"C-FIND answered: no. {why_not}" if why_not else "C-FIND answered: yes")
    answered = takes["find"] and not why_not
    finish(takes | {"find_answered": answered}, as_json=as_json, lines=lines)
    if not takes["echo"] or why_not:
        raise typer.Exit(1)


NAMES = {"echo": "C-ECHO answered", "find": "C-FIND offered", "get": "C-GET offered", "move": "C-MOVE offered"}


@app.command()
def find(
    patient_id: Annotated[str, typer.Option(help="Patient ID, as it stands in films. No wildcards.")],
    at: PacsOption = "",
    issuer: Annotated[str, typer.Option(help="Issuer of the id, where several are in use.")] = "",
    ae_title: TitleOption = "HILUM",
    ca: AuthoritiesOption = None,
    certificate: CertificateOption = None,
    as_json: JsonOption = False,
) -> None:
    """List what it has of exactly this patient: study date, modalities, study UID."""
    from hilum.errors import UsageError
    from hilum.service.dicom.pacs import asking
    from hilum.service.dicom.patients import Ambiguous, Patient, asked_with, text_of
    from hilum.service.dicom.priors import find_studies

    patient = Patient(patient_id=patient_id.strip(" "), issuer=issuer)
    try:
        asked_with(patient)
    except Ambiguous:
        raise UsageError(
            "--patient-id is empty, or has a wildcard (*, ?), a backslash, a control character or more than 64 "
            "characters. Give one patient's id as it stands in films."
        ) from None
    with asking(_reached(at, ae_title, ca, certificate)) as ask:
        found = find_studies(ask, patient, ("ISO_IR 192",))
    keys = ("StudyDate", "ModalitiesInStudy", "StudyInstanceUID")
    rows = sorted(([text_of(one, key) for key in keys] for one in found), reverse=True)
    studies = [dict(zip(("date", "modalities", "study"), row, strict=True)) for row in rows]
    lines = table(["date", "modalities", "study"], rows) if rows else ["It has nothing of this patient."]
    finish({"studies": studies}, as_json=as_json, lines=lines)


@app.command("fetch")
def fetch_studies(
    studies: Annotated[list[str], typer.Argument(metavar="STUDY", help="Study instance UIDs, as find prints them.")],
    at: PacsOption = "",
    ae_title: TitleOption = "HILUM",
    ca: AuthoritiesOption = None,
    certificate: CertificateOption = None,
    as_json: JsonOption = False,
) -> None:
    """Have the films of missing studies sent (C-MOVE) to the running service, which answers them as it does any.

    The PACS must know our AE title with the host and DICOM port of the service. CR and DX series are sent, no others.
    """
    from hilum.errors import UsageError
    from hilum.service.dicom.pacs import move_study
    from hilum.service.dicom.priors import UID

    for one in studies:
        if not UID.fullmatch(one):
            raise UsageError(f"{one!r} is no study instance UID. hilum pacs find prints them.")
    reached = _reached(at, ae_title, ca, certificate)
    series = sum(move_study(reached, one) for one in studies)
    lines = [f"Sent to {ae_title}: {series} series of films, {_studies(len(studies))}."]
    finish({"moved": studies, "series": series}, as_json=as_json, lines=lines)


@app.command("list")
def list_look_ups(data: DataOption = HERE, as_json: JsonOption = False) -> None:
    """Count look-ups of priors by state, and list those that failed, and why: given up, or tried again and when."""
    from hilum.cli.records import open_records
    from hilum.records.look_ups import LOOK_UP_STATES, LookUps
    from hilum.records.store import now

    with open_records(data) as database:
        look_ups = LookUps(database, now)
        counts, lost, again = look_ups.counts(), look_ups.lost(), look_ups.put_off()
    rows = [[counts.get(state, 0) for state in LOOK_UP_STATES]]
    lines = table(list(LOOK_UP_STATES), rows) if counts else ["no look-ups yet: set HILUM_PACS"]
    lines += [f"film {one.film_id}  {counted(one.attempts, 'attempt')}: {one.reason}" for one in lost]
    for one in again:
        tried = f"{counted(one.attempts, 'attempt')}, next {one.due_at:%Y-%m-%d %H:%M:%S} UTC"
        lines.append(f"film {one.film_id}  {tried}: {one.reason}")
    waiting = [{"film": one.film_id, "attempts": one.attempts, "reason": one.reason} for one in again]
    letters = [{"film": one.film_id, "code": one.reason_code, "attempts": one.attempts} for one in lost]
    finish({"look_ups": counts, "again": waiting, "given_up": letters}, as_json=as_json, lines=lines)


@app.command()
def requeue(
    film: Annotated[str | None, typer.Argument(metavar="[FILM]", help="A film; all that failed when absent.")] = None,
    data: DataOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Look again, at once, for the priors of films whose look-up was given up or waits for its next attempt."""
    from hilum.cli.records import open_records
    from hilum.records.look_ups import LookUps
    from hilum.records.store import now

    with open_records(data) as database:
        number = LookUps(database, now).requeue(film, actor="console")
    finish({"requeued": number}, as_json=as_json, lines=[f"In the queue again: {counted(number, 'look-up')}."])


def _studies(number: int) -> str:
    return f"{number} {'study' if number == 1 else 'studies'}"


def _reached(at: str, ae_title: str, ca: Path | None, certificate: Path | None) -> "Pacs":
    from hilum.errors import UsageError
    from hilum.service.destinations import PACS_FORM, read_pacs
    from hilum.service.dicom.pacs import Pacs
    from hilum.service.renewing import renewed_client

    if not at:
        raise UsageError(f"No PACS is named, by HILUM_PACS or --pacs. {PACS_FORM}.")
    try:
        node = read_pacs(at)
    except ValueError as error:
        named_by = "HILUM_PACS" if at == os.environ.get("HILUM_PACS") else "--pacs"
        raise UsageError(f"{named_by}: {error}.") from None
    try:
        tls = renewed_client(ca, certificate).current if node.tls else None
    except OSError as error:
        raise UsageError(f"The certificates can't be used ({error.strerror or type(error).__name__}).") from None
    return Pacs(node=node, calling=ae_title, tls=tls, timeout_s=30)
