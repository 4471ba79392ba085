"""A story step by step: what each did, whether it is so, what was measured, and what it took."""

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from hilum.errors import HilumError


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """Something that must be so."""

    sentence: str
    """What."""
    passed: bool
    """Whether it is."""


@dataclass(slots=True, kw_only=True)
class Step:
    """One step of a story, filled while it runs."""

    name: str
    """In a few words."""
    said: Callable[[str], None]
    """Told what happens."""
    acts: list[tuple[str, tuple[str, ...]]] = field(default_factory=list)
    """Acts that it must have left in the audit, each with its subjects."""
    checks: list[Check] = field(default_factory=list)
    """What must be so."""
    measured: list[tuple[str, str]] = field(default_factory=list)
    """Names and values, units included."""
    typed: list[str] = field(default_factory=list)
    """Commands that it ran."""
    seconds: float = 0.0
    """How long it took."""

    def check(self, passed: bool, sentence: str) -> bool:
        """Note whether something is as it must be; the story goes on either way."""
        self.checks.append(Check(sentence=sentence, passed=bool(passed)))
        self.said(f"    {'ok    ' if passed else 'FAILED'}  {sentence}")
        return bool(passed)

    def refused(self, act: Callable[[], object], because: str, sentence: str) -> bool:
        """Note whether an act is refused as it must be, for the reason that these words are of."""
        try:
            act()
        except HilumError as error:
            return self.check(because in str(error), sentence)
        return self.check(False, sentence)

    def measure(self, name: str, value: object) -> None:
        """Note what was measured, with its unit."""
        self.measured.append((name, str(value)))
        self.said(f"            {name}: {value}")

    def left(self, act: str, *subjects: str) -> None:
        """Note what the audit must hold of this step: a row of the act for every subject."""
        self.acts.append((act, subjects))

    def type(self, command: str) -> None:
        """Note a command that is run."""
        self.typed.append(command)
        self.said(f"    $ {command}")

    @property
    def passed(self) -> bool:
        """True when every check passed."""
        return all(check.passed for check in self.checks)


class Telling:
    """The steps so far.

    Args:
        said: told each sentence.
    """

    def __init__(self, said: Callable[[str], None]) -> None:
        self.said, self.steps, self.started = said, list[Step](), time.monotonic()

    @contextlib.contextmanager
    def step(self, name: str) -> Iterator[Step]:
        """Time a step; an error in it fails it, and ends the story."""
        step = Step(name=name, said=self.said)
        self.steps.append(step)
        self.said(f"[{time.monotonic() - self.started:5.1f} s] {name}")
        started = time.monotonic()
        try:
            yield step
        except HilumError as error:
            step.check(False, str(error))
            raise
        finally:
            step.seconds = round(time.monotonic() - started, 2)
            self.said(f"            {step.seconds:.1f} s")

    @property
    def passed(self) -> bool:
        """True when every step's checks passed."""
        return all(step.passed for step in self.steps)

    @property
    def failures(self) -> tuple[str, ...]:
        """What is not as it must be, each with its step."""
        return tuple(f"{step.name}: {one.sentence}" for step in self.steps for one in step.checks if not one.passed)
