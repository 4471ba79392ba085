"""The way back: a regression that is forced past the plan, found by its bounds and rolled back, while films come in."""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from hilum.bundle.reading import Bundle, read_bundle
from hilum.bundle.schema import CARD_MEMBER, INFO_MEMBER, MODEL_MEMBER
from hilum.bundle.writing import write_bundle
from hilum.demo.clinic_change import Change, models_of, read_films, round_of
from hilum.demo.clinic_days import answers_of
from hilum.demo.programs import until
from hilum.demo.room import Room
from hilum.demo.sender import Sender
from hilum.demo.telling import Step, Telling
from hilum.errors import ServiceError

if TYPE_CHECKING:
    from hilum.demo.clinic import Made

READ = 24
"""Films of the regressed model that readers look at."""


def told(made: "Made", room: Room, change: Change, sender: Sender, telling: Telling) -> None:
    """Tell the regression and the way back."""
    with telling.step("Regression: a bundle whose findings stand in a wrong order") as step:
        regressed = regress(step, room, change)
    with telling.step("Forced: somebody puts it into production past the plan") as step:
        forced(step, made, room, regressed)
    with telling.step("Rollback: the plan's bounds are broken, and the service goes back by itself") as step:
        rolled_back(step, made, room, change, regressed)
    with telling.step("Sender: every request was answered") as step:
        nothing_dropped(step, sender)


def regress(step: Step, room: Room, change: Change) -> Path:
    """A release mistake: the candidate's graph, exported with its findings in another order; its self-test passes."""
    source, out = read_bundle(Path(round_of(change)["bundle"])), room.folder / "regressed.hilum"
    names = source.info.findings
    turned = dict(zip(names, (*names[1:], names[0]), strict=True))
    alone = "a bundle whose list of findings alone was changed is refused"
    step.refused(lambda: _write(out, source, turned, source.model), "was exported for the findings", alone)
    _write(out, source, turned, _exported(source.model, [turned[name] for name in names]))
    room.hilum(step, "bundle", "verify", out)
    step.check(True, f"exported so, it says {turned[names[0]]} for {names[0]} and so on, and verifies itself")
    return out


def _write(out: Path, source: Bundle, turned: Mapping[str, str], model: bytes) -> None:
    """The bundle with findings named anew."""
    info, kept = source.info, {INFO_MEMBER, MODEL_MEMBER, CARD_MEMBER}
    files = {name: one for name, one in source.contents.items() if name not in kept and "reference/" not in name}
    wrong = replace(
        info,
        version=f"{info.version[:50]}-turned",
        findings=tuple(turned[name] for name in info.findings),
        thresholds={turned[name]: value for name, value in info.thresholds.items()},
        operating_points={},
    )
    write_bundle(out, info=wrong, model_onnx=model, reference=source.reference, card_markdown=source.card, files=files)


def _exported(model: bytes, findings: Sequence[str]) -> bytes:
    """The graph as if it had been exported with its findings in this order."""
    import onnx

    graph = onnx.load_from_string(model)
    for entry in graph.metadata_props:
        if entry.key == "findings":
            entry.value = json.dumps(list(findings))
    content: bytes = graph.SerializeToString()
    return content


def forced(step: Step, made: "Made", room: Room, bundle: Path) -> None:
    """Sent and activated over REST by a model manager, who has to say that it goes past the plan."""
    step.type(f"POST /api/v1/models with {bundle.name}; POST /api/v1/models/active")
    kind = {"Content-Type": "application/octet-stream"}
    kept = room.ask("mia", "POST", "/api/v1/models", content=bundle.read_bytes(), headers=kind)
    body = {"sha256": kept["sha256"], "reason": "Forced past the plan, to see it found."}
    active = "/api/v1/models/active"
    unsaid = "without saying so nothing goes past the plan"
    step.refused(lambda: room.ask("mia", "POST", active, json=body), "plan-in-force", unsaid)
    room.ask("mia", "POST", active, json=body | {"past_plan": True})
    step.check(room.active()["sha256"] == kept["sha256"], f"{kept['sha256'][:12]} is in production, by mia")
    step.left("model.registered", kept["sha256"])
    step.left("model.override", kept["sha256"])


def rolled_back(step: Step, made: "Made", room: Room, change: Change, bundle: Path) -> None:
    """Readers override; the bounds go back in one step."""
    digest = room.active()["sha256"]
    uids = room.scan("ROOM2", made.take("room-2", READ // 2)) + room.scan("ROOM1", made.take("room-1", READ // 2))
    step.check(set(models_of(room, uids).values()) == {digest}, f"it answered {len(uids)} of {len(uids)} films")
    overridden, read = read_films(room, answers_of(room, uids))
    step.measure("overridden by readers", f"{overridden} of {read}")
    started = time.monotonic()
    done = room.hilum(step, "change", "bounds", change.plan, fails=True)
    if not step.check(done["rolled_back"] is not None, " ".join(done["broken"]) or "a bound is broken"):
        raise ServiceError("The regression was not found, so the story ends here.")
    until(lambda: room.active()["sha256"] == change.candidate, "the service goes back", within_s=60)
    step.measure("from the look at the bounds to the model before in service", f"{time.monotonic() - started:.1f} s")
    step.left("model.rollback", change.candidate)
    again = room.scan("ROOM1", made.take("room-1", 8))
    step.check(set(models_of(room, again).values()) == {change.candidate}, "the model before answers again")


def nothing_dropped(step: Step, sender: Sender) -> None:
    """What became of the sender's requests."""
    sender.stop()
    states = sender.states()
    asked, answered = len(sender.taken) + len(sender.refused), len(sender.taken)
    step.measure("requests since the canary, each tried once", asked)
    step.check(
        not sender.refused and asked > 0,
        f"{answered} of {asked} films taken" + (f"; first refusal: {sender.refused[0]}" if sender.refused else ""),
    )
    told = ", ".join(f"{count} {state}" for state, count in sorted(states.items()))
    step.check(set(states) <= {"answered", "not-analysed"}, f"all of them answered: {told}")
