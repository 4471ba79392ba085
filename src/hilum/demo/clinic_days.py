"""The clinic's ordinary days: films arrive, answers go back, a reader overrides; then a new scanner, and an alarm."""

from typing import TYPE_CHECKING, Any

from hilum.client.answers import StudyAnswer
from hilum.demo.browsing import browser_at, logged_in, override
from hilum.demo.programs import until
from hilum.demo.room import Film, Room
from hilum.demo.telling import Step, Telling
from hilum.files import write_text

if TYPE_CHECKING:
    from hilum.demo.clinic import ClinicConfig, Made

OWNER = "quality manager"
"""Who answers for alarms."""

DAY_S = 0.1
"""Seconds of the monitor's day in the story, so that its weeks pass in a minute."""


def told(config: "ClinicConfig", made: "Made", room: Room, telling: Telling) -> list[str]:
    """Tell them; returns the UIDs of the new scanner's films."""
    with telling.step(
        f"Films: {config.reference + config.look} of room 1 by C-STORE to Orthanc, which routes them"
    ) as step:
        uids = arrive(step, room, "ROOM1", made.take("room-1", config.reference + config.look))
    with telling.step("Answers: reports and heat maps in the PACS") as step:
        came_back(step, room, uids)
    with telling.step("Override: a reader disagrees, in a browser") as step:
        overridden(step, room, uids)
    with telling.step("Monitor: an ordinary week") as step:
        watch_plan(config, room)
        found = look(step, room)
        step.check(found["alarm"] is None and found["looks"] >= 1, f"{found['looks']} look, no alarm")
    with telling.step("New scanner: films of room 2, until the monitor calls") as step:
        return drift(step, config, made, room)


def arrive(step: Step, room: Room, scanner: str, films: list[Film]) -> list[str]:
    """Films are sent and answered; what came of them is measured."""
    uids = room.scan(scanner, films)
    answers = answers_of(room, uids)
    step.check(len(answers) == len(films), f"{len(answers)} of {len(films)} films answered")
    right, said, abstained = counted(room, answers)
    step.measure("right, of those with a label", f"{right} of {said}")
    step.measure("left to a person", f"{abstained} of {len(films)}")
    ids = room.answered(uids).values()
    step.left("film.received", *ids)
    step.left("film.answered", *ids)
    return uids


def answers_of(room: Room, uids: list[str]) -> dict[str, StudyAnswer]:
    """The typed client's answers, by SOP instance UID, in the order of the films."""
    found = room.answered(uids)
    with room.client("mia") as client:
        return {uid: client.study(found[uid]) for uid in uids if uid in found}


def counted(room: Room, answers: dict[str, StudyAnswer]) -> tuple[int, int, int]:
    """Answers that are right, that have a label, and that are left to a person."""
    said = [(room.truth[uid], one.label) for uid, one in answers.items() if one.label is not None]
    return sum(truth == label for truth, label in said), len(said), len(answers) - len(said)


def came_back(step: Step, room: Room, uids: list[str]) -> None:
    """Reports and heat maps lie in the PACS."""
    until(lambda: set(room.deliveries()) <= {"sent"}, "all results are sent", within_s=120)
    reports, maps = room.pacs.held(Modality="SR"), room.pacs.held(Modality="OT")
    step.check(len(reports) == len(uids), f"Orthanc holds {len(reports)} reports of {len(uids)} films")
    step.check(bool(maps), f"and {len(maps)} heat maps")
    report, drawn = room.pacs.object(reports[0]), room.pacs.object(maps[0])
    step.check(report.VerificationFlag == "UNVERIFIED", "a report is UNVERIFIED: no person has looked yet")
    step.check("not for diagnosis" in drawn.DerivationDescription, "a heat map says that it is not for diagnosis")


def overridden(step: Step, room: Room, uids: list[str]) -> None:
    """A reader overrides an answer that is wrong, or that the model left to a person."""
    wrong = [(uid, one) for uid, one in answers_of(room, uids).items() if one.label != room.truth[uid]]
    if not step.check(bool(wrong), f"{len(wrong)} answers are wrong or left to a person"):
        return
    uid, answer = min(wrong, key=lambda pair: pair[1].label is None)
    truth, comment = room.truth[uid], "Synthetic film: it was drawn with this finding."
    at, missing = browser_at()
    if at is None:
        step.measure("no browser here, so the typed client does what a reader does on the page", missing)
        with room.client("ada") as client:
            client.review(answer.id, "override", finding=truth, comment=comment)
    else:
        with logged_in(at, room.url, "ada", room.passwords["ada"]) as page:
            seconds = override(page, answer.id, truth, comment, room.folder / "override.png")
        step.measure("Chromium, by keyboard, from the opened film to the saved review", f"{seconds:.1f} s")
    with room.client("ada") as client:
        (review,) = client.reviews(answer.id)
    step.check(
        (review.reader, review.decision, review.finding) == ("ada", "override", truth),
        f"ada overrode {answer.label or 'no label'}: {truth}",
    )
    study = str(room.pacs.object(room.pacs.held(SOPInstanceUID=uid)[0]).StudyInstanceUID)
    until(lambda: len(room.pacs.held(Modality="SR", StudyInstanceUID=study)) == 2, "the review is sent", within_s=60)
    held = [room.pacs.object(one) for one in room.pacs.held(Modality="SR", StudyInstanceUID=study)]
    names = [
        str(one.VerifyingObserverSequence[0].VerifyingObserverName)
        for one in held
        if one.VerificationFlag == "VERIFIED"
    ]
    step.check(names == ["ada"], "the PACS holds the reader's report, VERIFIED, beside the model's")
    step.left("film.reviewed", answer.id)


def watch_plan(config: "ClinicConfig", room: Room) -> None:
    """How the clinic is watched."""
    lines = [f'owner = "{OWNER}"', 'site = "Synthetic clinic"', "reference_days = 1", f"day_s = {DAY_S}"]
    lines += [f"least_reference = {config.reference}", f"least_films = {config.look}"]
    write_text(room.folder / "watch.toml", "\n".join(lines) + "\n")


def look(step: Step, room: Room) -> dict[str, Any]:
    """One check of the monitor, which ends with 1 while there is an alarm."""
    words = ("monitor", "check", "--plan", room.folder / "watch.toml", "--out", room.folder / "monitor")
    found: dict[str, Any] = room.hilum(step, *words, fails=True)
    return found


def drift(step: Step, config: "ClinicConfig", made: "Made", room: Room) -> list[str]:
    """Films of another scanner come in until the monitor opens an alarm, at most four looks long."""
    answers: dict[str, StudyAnswer] = {}
    for _ in range(4):
        uids = room.scan("ROOM2", made.take("room-2", config.look))
        answers |= answers_of(room, uids)
        found = look(step, room)
        if found["alarm"] is not None:
            break
    right, said, abstained = counted(room, answers)
    step.measure("films of the new scanner until the alarm", len(answers))
    step.measure("right, of those with a label", f"{right} of {said}")
    step.measure("left to a person", f"{abstained} of {len(answers)}")
    if not step.check(found["alarm"] is not None, "the monitor opened an alarm"):
        return list(answers)
    (alarm,) = room.hilum(None, "monitor", "alarms")["alarms"]
    step.check(alarm["culprit"] == "device", f"it names the culprit: {alarm['culprit']}")
    room.hilum(step, "monitor", "acknowledge", alarm["id"], "--by", OWNER)
    step.left("alarm.opened", alarm["id"])
    step.left("alarm.acknowledged", alarm["id"])
    return list(answers)
