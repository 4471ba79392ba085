"""What the documents ask for, as tables: principles, hazards, safeguards. Texts are ours; sources are named.

An item names where its evidence comes from: ``bundle.…``, ``plan.…``, ``scorecard.…``, ``monitor.…``, ``registry`` (all
read from artefacts), ``site.…`` (a field of the site's file) or ``doc:…`` (a page of this package that describes the
control, which is there with every installation).
"""

from typing import NamedTuple


class Asked(NamedTuple):
    """One item of a document."""

    title: str
    """What is asked."""
    sources: tuple[str, ...]
    """Where its evidence comes from; each that is absent is a missing field."""
    text: str = ""
    """What is said beside it."""


GMLP: tuple[Asked, ...] = (
    Asked("1. Intended use is understood, by people of several disciplines", ("bundle.intended_use", "site.team")),
    Asked(
        "2. Good software, design and security practice",
        ("bundle.sha256", "doc:docs/reliability.md", "doc:docs/operations.md"),
        "Bundles are verified by hash, each change is tested, every act stands in a chained audit.",
    ),
    Asked(
        "3. Data of the evaluation represent the intended patients",
        ("scorecard.films", "scorecard.subgroups", "site.patients_represented"),
    ),
    Asked(
        "4. Training data are independent of test data",
        ("bundle.split", "doc:docs/validation.md"),
        "A split proves that it shares no patient, film or copy; the change gate proves it again for each candidate.",
    ),
    Asked("5. The reference standard is fit for its purpose", ("site.reference_standard",)),
    Asked(
        "6. The model suits the data and the intended use",
        ("bundle.calibration", "bundle.abstention", "bundle.thresholds"),
    ),
    Asked(
        "7. The person and the model are assessed together",
        ("site.reader_study", "doc:docs/explanation.md"),
        "A person decides on every film; overrides are kept and watched.",
    ),
    Asked("8. Tests show performance in clinically relevant conditions", ("scorecard.auroc", "site.prospective_pilot")),
    Asked("9. Users are given clear and essential information", ("bundle.card", "site.training_given")),
    Asked(
        "10. Deployed models are watched, and retraining is managed",
        ("monitor.looks", "plan.sha256", "registry"),
    ),
)
"""IMDRF/AIML WG/N88 FINAL:2025, Good machine learning practice for medical device development: ten principles."""


class Hazard(NamedTuple):
    """One hazard."""

    name: str
    """What may happen."""
    harm: str
    """To whom, and how badly."""
    control: str
    """What controls it."""
    check: str
    """The test or page that shows the control at work."""


HAZARDS: tuple[Hazard, ...] = (
    Hazard(
        "A finding is missed (false negative)",
        "Treatment comes late; serious",
        "Operating points have sensitivity as their floor; a person reads every film; the change gate bounds sensitivity by subgroup",
        "docs/validation.md; tests/change/test_gate.py",
    ),
    Hazard(
        "A finding is missed in a subgroup or on a new device",
        "As above, unseen in the mean",
        "Subgroup floors that fail when cases are few; drift alarms that name device, view and population",
        "docs/monitoring.md; tests/monitoring/test_promises.py",
    ),
    Hazard(
        "A reader trusts a wrong answer (automation bias)",
        "Treatment comes late or needlessly; serious",
        "Read-first mode, calibrated probabilities, abstention, heat maps that can be turned off, override with a reason",
        "docs/explanation.md; docs/operations.md",
    ),
    Hazard(
        "A healthy patient is called ill (false positive)",
        "Needless tests; moderate",
        "Specificity at the operating point is stated with its interval; a person decides",
        "docs/validation.md",
    ),
    Hazard(
        "A film outside the intended use is answered",
        "An answer that means nothing; serious",
        "The gate refuses by header and image; out-of-distribution films abstain",
        "tests/imaging/test_gate.py",
    ),
    Hazard(
        "A film is inverted or windowed wrongly",
        "An answer to another picture; serious",
        "Pixels in DICOM's order as one table, golden vectors; inverted polarity is a drift that alarms",
        "tests/imaging/test_golden_vectors.py; tests/monitoring/test_promises.py",
    ),
    Hazard(
        "An answer is shown for another patient",
        "Treatment of the wrong person; serious",
        "Results carry the film's own identifiers byte for byte; films that claim one UID are set aside",
        "tests/service/test_results.py; tests/service/test_intake.py",
    ),
    Hazard(
        "A film is lost, or never answered",
        "A late reading; moderate",
        "Acknowledged means durable; leases; dead letters",
        "tests/service/test_killed_often.py",
    ),
    Hazard(
        "The model decays unseen",
        "More errors of every kind; serious",
        "Weekly looks within an alarm budget, an owner, a self-test, performance where labels come late",
        "docs/monitoring.md",
    ),
    Hazard(
        "A change makes the model worse",
        "More errors of every kind; serious",
        "The change gate against first and current model, two approvers, shadow, canary, rollback in one step",
        "docs/change-control.md; tests/change/test_gate.py",
    ),
    Hazard(
        "Somebody poisons the labels that readers give",
        "A worse model by design; serious",
        "Quarantine, limits by source, outliers, a second person's word, versions by digest",
        "tests/change/test_feedback.py",
    ),
    Hazard(
        "Identifiers leak",
        "Loss of privacy; serious",
        "Identifiers apart from results, none in a log, metric, address or error; access by role, chained audit",
        "tests/service/test_privacy.py; tests/records/test_audit.py",
    ),
)
"""Hazards, false negatives first."""


class Safeguard(NamedTuple):
    """One requirement of security or privacy."""

    rule: str
    """Where it stands."""
    asks: str
    """What it asks, in short."""
    control: str
    """What here answers it; the rest is the site's."""
    source: str
    """Evidence."""


SAFEGUARDS: tuple[Safeguard, ...] = (
    Safeguard(
        "HIPAA 45 CFR 164.308(a)(1)",
        "Risk analysis and management",
        "The risk file of this pack",
        "site.security_officer",
    ),
    Safeguard("HIPAA 164.308(a)(2)", "A responsible person", "Named by the site", "site.security_officer"),
    Safeguard("HIPAA 164.308(a)(5)", "Training", "The training sheet of this pack", "site.training_given"),
    Safeguard(
        "HIPAA 164.308(a)(6)",
        "Incidents",
        "Alarms with an owner; the audit shows who did what",
        "site.incident_contact",
    ),
    Safeguard(
        "HIPAA 164.308(a)(7)",
        "Contingency: backup and recovery",
        "hilum backup, hilum restore",
        "doc:docs/operations.md",
    ),
    Safeguard(
        "HIPAA 164.312(a)",
        "Access control",
        "Users, roles, scopes and keys; every route says whom it is for",
        "doc:docs/operations.md",
    ),
    Safeguard(
        "HIPAA 164.312(b)",
        "Audit controls",
        "Chained audit with signed heads, verified offline",
        "doc:docs/reliability.md",
    ),
    Safeguard(
        "HIPAA 164.312(c)",
        "Integrity",
        "Films by content hash, bundles by digest and signature",
        "doc:docs/reliability.md",
    ),
    Safeguard(
        "HIPAA 164.312(d)",
        "Authentication",
        "Passwords by a memory-hard function, keys as digests",
        "doc:docs/operations.md",
    ),
    Safeguard("HIPAA 164.312(e)", "Transmission security", "TLS for REST, pages and DICOM", "doc:docs/operations.md"),
    Safeguard(
        "GDPR art. 5, 25",
        "Data minimisation by design",
        "Fingerprints only by policy; identifiers apart",
        "doc:docs/monitoring.md",
    ),
    Safeguard("GDPR art. 6, 9", "A lawful basis", "Named by the site", "site.lawful_basis"),
    Safeguard("GDPR art. 13, 14", "Information of patients", "Named by the site", "site.patient_information"),
    Safeguard(
        "GDPR art. 17", "Erasure", "A film can be erased and its history still be proved", "doc:docs/reliability.md"
    ),
    Safeguard(
        "GDPR art. 22", "No decision by automation alone", "A person decides on every film", "bundle.intended_use"
    ),
    Safeguard("GDPR art. 30", "Records of processing", "The audit, and this pack", "site.data_protection_officer"),
    Safeguard("GDPR art. 32", "Security of processing", "As for HIPAA 164.312", "doc:docs/operations.md"),
    Safeguard("GDPR art. 35", "Impact assessment", "Made by the site with this pack", "site.impact_assessment"),
)
"""HIPAA Security Rule (45 CFR 164 subpart C) and GDPR (Regulation (EU) 2016/679), in short."""

INTENDED_USE: tuple[Asked, ...] = (
    Asked("What the model is for", ("bundle.intended_use",)),
    Asked("What it tells apart", ("bundle.findings",)),
    Asked("Which films it analyses", ("bundle.gate",)),
    Asked("Who uses it, and where in the work", ("site.users", "site.workflow")),
    Asked(
        "What it is not for", ("site.not_for",), "It is assistive and not a cleared medical device; a person decides."
    ),
    Asked("Manufacturer or responsible organisation", ("site.organisation",)),
)

DATA_SHEET: tuple[Asked, ...] = (
    Asked("What it was trained on", ("bundle.provenance",)),
    Asked("How it was split", ("bundle.split",)),
    Asked("Fingerprints of data, split, config and weights", ("bundle.fingerprints",)),
    Asked("Films and patients of the test", ("scorecard.films", "scorecard.patients")),
    Asked("How labels were made", ("site.reference_standard",)),
    Asked("Whom the data represent, and whom not", ("site.patients_represented",)),
    Asked("Consent or ethics", ("site.ethics",)),
)

MODEL_CARD: tuple[Asked, ...] = (
    Asked("Name, version, digest", ("bundle.name", "bundle.version", "bundle.sha256")),
    Asked(
        "Calibration, abstention, operating points", ("bundle.calibration", "bundle.abstention", "bundle.thresholds")
    ),
    Asked("AUROC", ("scorecard.auroc",)),
    Asked("Sensitivity and specificity", ("scorecard.sensitivity", "scorecard.specificity")),
    Asked("The whole card", ("bundle.card",)),
)

PCCP: tuple[Asked, ...] = (
    Asked(
        "Part 1. Description of modifications",
        ("plan.scope", "plan.intended_use"),
        "What may change, and what a change never widens.",
    ),
    Asked(
        "Part 2. Modification protocol",
        (
            "plan.test_set",
            "plan.non_inferiority",
            "plan.subgroups",
            "plan.calibration",
            "plan.approvals",
            "plan.rollback",
        ),
        "Data, evaluation, acceptance, approval, rollout (shadow, canary, promotion) and rollback.",
    ),
    Asked(
        "Part 3. Impact assessment",
        ("site.change_benefits", "site.change_risks"),
        "Benefits and risks of each modification, their mitigation, and what modifications do together: alpha is spent over updates, "
        "and each is compared with the first approved model too.",
    ),
    Asked("The plan's digest", ("plan.sha256",)),
    Asked("What was in production when", ("registry",)),
)
"""Three parts after FDA, Marketing Submission Recommendations for a Predetermined Change Control Plan (2024)."""

CLINICAL: tuple[Asked, ...] = (
    Asked("1. Retrospective evaluation", ("scorecard.auroc", "scorecard.subgroups", "doc:docs/validation.md")),
    Asked(
        "2. Reader study",
        ("site.reader_study",),
        "Several readers, each film with and without the model in an order by chance, with a pause; the primary figure is the "
        "readers' sensitivity with the model minus without, with an interval by reader and case.",
    ),
    Asked(
        "3. Prospective pilot",
        ("site.prospective_pilot",),
        "Shadow first: answers are kept and shown to nobody. Then read-first: the reader's opinion is recorded before the answer. "
        "Stop rules are the plan's rollback bounds.",
    ),
    Asked("Literature and equivalent devices", ("site.literature",)),
    Asked("Who answers for it", ("site.clinical_lead",)),
)

HUMAN_FACTORS: tuple[Asked, ...] = (
    Asked("Users, uses and surroundings", ("site.users", "site.workflow")),
    Asked(
        "Critical tasks",
        ("doc:docs/operations.md",),
        "Open the film that waits longest or worries most; see that an answer is missing or abstained; override; tell that a heat map "
        "is no outline of a lesion.",
    ),
    Asked("Formative evaluation", ("site.formative_evaluation",)),
    Asked("Summative evaluation", ("site.summative_evaluation",)),
)

TRAINING: tuple[str, ...] = (
    "The model helps to read adult frontal chest films. It is assistive and not for diagnosis: you decide.",
    "Read the film first. Where read-first mode is on, your opinion is recorded before you see the answer.",
    "A probability of 30 % means that about 3 of 10 such films show the finding; it is not a grade of how ill somebody is.",
    "Abstained means that the model is in doubt, and not analysed that the film is outside its use. Neither means normal.",
    "A negative answer doesn't exclude the finding. Missed findings are the worst error; look as you always do.",
    "A heat map shows where the evidence for the answer lies. It is no outline of a lesion, and may be wrong where the answer is.",
    "If you disagree, override and say why. Overrides are looked at by a second person before anything learns from them.",
    "If answers look odd on many films, a new device for instance, tell the owner of the alarms at once.",
)
"""A sheet for clinicians."""

POST_MARKET: tuple[Asked, ...] = (
    Asked("What is watched, how often, by whom", ("monitor.owner", "monitor.looks", "doc:docs/monitoring.md")),
    Asked("Performance with labels", ("monitor.performance",)),
    Asked("The self-test of the watching", ("monitor.self_test",)),
    Asked("When the service goes back by itself", ("plan.rollback",)),
    Asked("Complaints, incidents and whom they are reported to", ("site.incident_contact", "site.authority")),
    Asked("When this plan is reviewed", ("site.review_date",)),
)
