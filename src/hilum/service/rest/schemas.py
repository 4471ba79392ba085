"""What the REST interface answers; the descriptions are its documentation."""

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, Field

from hilum.records.values import FilmRecord

NOTICE = "Assistive, not for diagnosis. For research and validation; not a medical device."

StateName = Literal["received", "preparing", "answered", "not-analysed", "failed", "quarantined"]


class Reason(BaseModel):
    """Why a film has no answer."""

    code: str = Field(description="Machine-readable reason.", examples=["outside-intended-use"])
    sentence: str = Field(description="The same for a person.")


class Answer(BaseModel):
    """A model's answer to a film."""

    label: str | None = Field(description="The finding; null when the model abstained or the film was not analysed.")
    positive: list[str] = Field(
        description="Findings whose probability reaches their operating point, likeliest first. Operating points aim "
        "at sensitivity, so a finding can be positive without being the label."
    )
    probabilities: dict[str, float] | None = Field(description="Calibrated probability of each finding; they sum to 1.")
    uncertainty: dict[str, Any] = Field(
        description="`mc_mean` and `mc_std` of each finding over dropout masks, `member_std` over the ensemble's "
        "members, `mutual_information` (nats), `ood_distance` (distance from the training films)."
    )
    abstained: bool = Field(description="True when the film goes to a person without a label.")
    reasons: list[str] = Field(description="Why the model abstained or refused, one sentence each.")
    gate: dict[str, Any] = Field(description="Verdict of the intended-use checks: code, outcome and sentence of each.")
    heatmaps: dict[str, str] = Field(description="By finding, where its heat map over the film is to be had (PNG).")
    provenance: dict[str, Any] = Field(description="Model version (bundle hash), preprocessing version, runtime, time.")
    recorded_at: datetime = Field(description="When the answer was recorded (UTC).")


class Study(BaseModel):
    """A film and what became of it. No identifiers of the patient."""

    id: str = Field(description="Opaque id of the film.", examples=["0f1e2d3c4b5a69788796a5b4c3d2e1f0"])
    state: StateName = Field(
        description="`received` and `preparing`: wait. `answered`. `not-analysed`: outside the intended use. `failed`: "
        "unreadable. `quarantined`: set aside, because it claims the identity of another film."
    )
    received_at: datetime = Field(description="When it was acknowledged (UTC).")
    origin: str = Field(description="`rest`, `dicom`, `dicomweb`, or `pacs` for an earlier film that was asked for.")
    calling_ae: str = Field(
        default="", description="AE title that the DICOM peer called itself, a claim; empty where it came over HTTP."
    )
    sha256: str = Field(
        description="Digest of the file as kept, which DICOMweb gives: a DICOM file has a head of ours."
    )
    reason: Reason | None = Field(description="Why there is no answer; null otherwise.")
    answer: Answer | None = Field(description="The newest answer; null while there is none.")
    film: str = Field(description="Where the film is to be had as a picture (PNG).")
    notice: str = Field(default=NOTICE, description="Goes wherever the answer goes.")


class StudyList(BaseModel):
    """Films, newest first."""

    studies: list[Study]
    next: str | None = Field(description="Cursor of the following page; null at the end.")
    notice: str = NOTICE


class Problem(BaseModel):
    """What went wrong (RFC 9457)."""

    type: str = Field(description="URN of the kind of problem.", examples=["urn:hilum:problem:too-large"])
    title: str = Field(description="The kind in words.")
    status: int = Field(description="HTTP status.")
    detail: str = Field(description="What was wrong, where, and the mend.")


def study_of(film: FilmRecord) -> Study:
    """A film as the interface shows it."""
    base = f"/api/v1/studies/{film.film_id}"
    return Study(
        id=film.film_id,
        state=film.state,
        received_at=film.received_at,
        origin=film.origin,
        calling_ae=film.calling_ae,
        sha256=film.file_sha256,
        reason=Reason(code=film.reason_code, sentence=film.reason) if film.reason_code else None,
        answer=_answer_of(film, base),
        film=f"{base}/film.png",
    )


def _answer_of(film: FilmRecord, base: str) -> Answer | None:
    record = film.answer
    if record is None:
        return None
    said = record.assessment
    return Answer(
        label=record.label,
        positive=list(said.get("positive", ())),
        probabilities=said.get("probs") or None,
        uncertainty={name: value for name, value in said.get("uncertainty", {}).items() if value not in (None, {})},
        abstained=record.abstained,
        reasons=list(said.get("reasons", ())),
        gate=dict(said.get("gate", {})),
        heatmaps={finding: f"{base}/heatmap/{finding}.png" for finding in record.findings},
        provenance=dict(said.get("provenance", {})),
        recorded_at=record.created_at,
    )
