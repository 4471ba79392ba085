"""A Comprehensive 3D SR of one answer, by TID 1500 "Measurement Report" (PS3.16 annex A), built with highdicom.

One measurement group (TID 1501) for each finding, with its probability as NUM, and one for the answer as a whole. Sent
first as UNVERIFIED; what a reader decides becomes a VERIFIED document of its own, which names the first one as its
predecessor.
"""

import warnings
from typing import Any

from hilum.errors import FilmError
from hilum.service.dicom import codes
from hilum.service.dicom.codes import Code, finding_code, plain
from hilum.service.dicom.part10 import part10
from hilum.service.dicom.result import NOT_FOR_DIAGNOSIS, Decision, Result, ResultObject
from hilum.service.dicom.source_film import SourceFilm, can_hold, local_time, named_charset
from hilum.service.dicom.uids import derived_uid

COMPREHENSIVE_3D_SR = "1.2.840.10008.5.1.4.1.1.88.34"
SERIES_DESCRIPTION = "AI report - not for diagnosis"
SERIES_NUMBER = 9001
"""The same for every report, so that hanging protocols can name it."""

MANUFACTURER = "hilum"


def make_report(source: SourceFilm, result: Result) -> ResultObject:
    """The answer as an UNVERIFIED report.

    Args:
        source: the film.
        result: the answer.
    """
    return _report(source, result, None)


def make_verified_report(source: SourceFilm, result: Result, decision: Decision) -> ResultObject:
    """The VERIFIED successor: the same content, what the reader decided, and who decided.

    Args:
        source: the film.
        result: the answer that the reader looked at.
        decision: what was decided.

    Raises:
        FilmError: the reader's name or comment can't be written in the film's character set.
    """
    for text in (decision.reader, decision.organization, decision.comment):
        if not can_hold(source, text):
            raise FilmError(
                "The reader's name, organization or comment can't be written in the film's character set "
                f"{named_charset(source)}. Write it in Latin letters.",
                code="character-set",
            )
    return _report(source, result, decision)


def _report(source: SourceFilm, result: Result, decision: Decision | None) -> ResultObject:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom's about values of the film's; they would quote them
        document = _document(source, result, decision)
        content = part10(document, source)
    return ResultObject(sop_class_uid=COMPREHENSIVE_3D_SR, sop_instance_uid=document.SOPInstanceUID, content=content)


def _document(source: SourceFilm, result: Result, decision: Decision | None) -> Any:
    from highdicom.coding_schemes import CodingSchemeIdentificationItem
    from highdicom.sr import Comprehensive3DSR

    at = local_time(source, decision.decided_at if decision else result.made_at)
    verifying: dict[str, Any] = {}
    if decision:
        verifying = {
            "verifying_observer_name": decision.reader,
            "verifying_organization": decision.organization,
            "previous_versions": [_reference(source, result)],
        }
    document: Any = Comprehensive3DSR(
        evidence=[_evidence(source)],
        content=_content(source, result, decision)[0],
        series_instance_uid=_series_uid(source, result),
        series_number=SERIES_NUMBER,
        sop_instance_uid=_uid(source, result, decision),
        instance_number=source.instance_number,
        manufacturer=MANUFACTURER,
        manufacturer_model_name=plain(result.model_name)[:64],
        series_description=SERIES_DESCRIPTION,
        is_complete=True,
        is_final=decision is not None,
        is_verified=decision is not None,
        content_date=at.date(),
        content_time=at.time(),
        coding_schemes=[
            CodingSchemeIdentificationItem(
                codes.PRIVATE_SCHEME, name=codes.PRIVATE_SCHEME_NAME, responsible_organization=MANUFACTURER
            )
        ],
        specific_character_set=None,
        **verifying,
    )
    document.SoftwareVersions = software_versions(result)
    # highdicom takes the clock's time here; equal inputs must give equal bytes.
    document.InstanceCreationDate, document.InstanceCreationTime = document.ContentDate, document.ContentTime
    document.ContributingEquipmentSequence = [contributing_equipment(result)]
    if decision:
        document.VerifyingObserverSequence[0].VerificationDateTime = at.strftime("%Y%m%d%H%M%S")
    return document


def software_versions(result: Result) -> list[str]:
    """Versions of the model and of hilum, as VR LO holds them."""
    return [plain(result.model_version)[:64], f"hilum {result.software}"[:64]]


def contributing_equipment(result: Result) -> Any:
    """Which software made an object (PS3.3 C.12.1)."""
    from pydicom.dataset import Dataset

    purpose, item = Dataset(), Dataset()
    code = codes.PROCESSING_EQUIPMENT
    purpose.CodeValue, purpose.CodingSchemeDesignator, purpose.CodeMeaning = code.value, code.scheme, code.meaning
    item.PurposeOfReferenceCodeSequence = [purpose]
    item.Manufacturer, item.ManufacturerModelName = MANUFACTURER, plain(result.model_name)[:64]
    item.SoftwareVersions = software_versions(result)
    item.ContributionDescription = "Answered by a model; research and validation only"
    return item


def _uid(source: SourceFilm, result: Result, decision: Decision | None) -> str:
    if decision is None:
        return result.uid("report", source.sop_instance_uid)
    return result.uid("verified-report", source.sop_instance_uid, decision.id)


def _series_uid(source: SourceFilm, result: Result) -> str:
    """One series for all reports of a study and a model version."""
    return derived_uid("report-series", source.study_instance_uid, result.model_sha256)


def _evidence(source: SourceFilm) -> Any:
    """What highdicom needs of the film; patient and study stay empty, since the film's own bytes are put in later."""
    from pydicom.dataset import Dataset

    film = Dataset()
    film.SOPClassUID, film.SOPInstanceUID = source.sop_class_uid, source.sop_instance_uid
    film.StudyInstanceUID, film.SeriesInstanceUID = source.study_instance_uid, source.series_instance_uid
    film.PatientID = film.PatientName = film.PatientSex = film.AccessionNumber = film.StudyID = ""
    film.PatientBirthDate = film.StudyDate = film.StudyTime = film.ReferringPhysicianName = None
    film.Rows = film.Columns = 1
    return film


def _reference(source: SourceFilm, result: Result) -> Any:
    from pydicom.dataset import Dataset

    before = Dataset()
    before.SOPClassUID, before.SOPInstanceUID = COMPREHENSIVE_3D_SR, _uid(source, result, None)
    before.StudyInstanceUID, before.SeriesInstanceUID = source.study_instance_uid, _series_uid(source, result)
    return before


def _content(source: SourceFilm, result: Result, decision: Decision | None) -> Any:
    from highdicom.sr import MeasurementReport, ObservationContext

    groups = [_answer_group(source, result, decision)]
    groups += [_finding_group(source, result, finding) for finding in result.probs]
    return MeasurementReport(
        observation_context=ObservationContext(
            observer_person_context=_person(decision) if decision else None,
            observer_device_context=_device(result),
        ),
        procedure_reported=_concept(codes.CHEST_FILM),
        imaging_measurements=groups,
    )


def _device(result: Result) -> Any:
    from highdicom.sr import DeviceObserverIdentifyingAttributes, ObserverContext
    from pydicom.sr.codedict import codes as concepts

    return ObserverContext(
        observer_type=concepts.DCM.Device,
        observer_identifying_attributes=DeviceObserverIdentifyingAttributes(
            uid=derived_uid("model", result.model_sha256),
            name="hilum",
            manufacturer_name=MANUFACTURER,
            model_name=plain(f"{result.model_name} {result.model_version}"),
        ),
    )


def _person(decision: Decision) -> Any:
    from highdicom.sr import ObserverContext, PersonObserverIdentifyingAttributes
    from pydicom.sr.codedict import codes as concepts

    return ObserverContext(
        observer_type=concepts.DCM.Person,
        observer_identifying_attributes=PersonObserverIdentifyingAttributes(
            name=decision.reader, organization_name=decision.organization
        ),
    )


def _answer_group(source: SourceFilm, result: Result, decision: Decision | None) -> Any:
    """The answer as a whole, and what a reader says of it."""
    from highdicom.sr import QualitativeEvaluation

    said = codes.ABSTAINED if result.label is None else finding_code(result.label)
    evaluations = [QualitativeEvaluation(_concept(codes.ANSWER), _concept(said))]
    finding = None if result.label is None else said
    comments = [NOT_FOR_DIAGNOSIS, *result.reasons]
    if decision:
        verdict = codes.AGREED if decision.verdict == "agreed" else codes.OVERRIDDEN
        evaluations.append(QualitativeEvaluation(_concept(codes.DECISION), _concept(verdict)))
        finding = None if decision.finding is None else finding_code(decision.finding)
    group = _group(source, result, "answer", finding, evaluations=evaluations)
    for comment in comments:
        group[0].ContentSequence.append(_comment(plain(comment)))
    if decision and decision.comment:
        group[0].ContentSequence.append(_comment(decision.comment))
    return group


def _finding_group(source: SourceFilm, result: Result, name: str) -> Any:
    from highdicom.sr import Measurement, QualitativeEvaluation

    units, probability = _concept(codes.NO_UNITS), _concept(codes.PROBABILITY)
    measurements = [Measurement(name=probability, value=result.probs[name], unit=units)]
    if name in result.spread:
        spread, derivation = result.spread[name], _concept(codes.STANDARD_DEVIATION)
        measurements.append(Measurement(name=probability, value=spread, unit=units, derivation=derivation))
    reached = codes.REACHED if name in result.positive else codes.NOT_REACHED
    evaluation = QualitativeEvaluation(_concept(codes.OPERATING_POINT), _concept(reached))
    return _group(source, result, name, finding_code(name), measurements=measurements, evaluations=[evaluation])


def _group(
    source: SourceFilm, result: Result, name: str, finding: Code | None, *, evaluations: Any, measurements: Any = None
) -> Any:
    from highdicom.sr import (
        AlgorithmIdentification,
        MeasurementsAndQualitativeEvaluations,
        SourceImageForMeasurementGroup,
        TrackingIdentifier,
    )

    group = MeasurementsAndQualitativeEvaluations(
        tracking_identifier=TrackingIdentifier(
            uid=result.uid("tracking", source.sop_instance_uid, name), identifier=plain(name)
        ),
        finding_type=None if finding is None else _concept(finding),
        algorithm_id=AlgorithmIdentification(
            name=plain(result.model_name), version=plain(result.model_version), parameters=_parameters(result)
        ),
        measurements=measurements,
        qualitative_evaluations=evaluations,
    )
    image = SourceImageForMeasurementGroup(source.sop_class_uid, source.sop_instance_uid)
    # TID 1501 takes its purpose from CID 7551: (121112, DCM); highdicom's older choice is SNOMED CT's "Source".
    image.ConceptNameCodeSequence = [_concept(codes.SOURCE_OF_MEASUREMENT)]
    group[0].ContentSequence.append(image)
    return group


def _parameters(result: Result) -> list[str]:
    return [f"bundle={result.model_sha256}", *(plain(one) for one in result.parameters)]


def _comment(text: str) -> Any:
    from highdicom.sr import RelationshipTypeValues, TextContentItem

    return TextContentItem(name=_concept(codes.COMMENT), value=text, relationship_type=RelationshipTypeValues.CONTAINS)


def _concept(code: Code) -> Any:
    from highdicom.sr import CodedConcept

    return CodedConcept(code.value, code.scheme, code.meaning)
