"""Which model answers: those that the registry names, exchanged between batches while films come in.

A model that is to answer is verified, loaded beside the present one and made to pass its self-test; only then does one
row in the registry say that it is in production, and one assignment here make it so. A film that was read for the old
model is answered by the old model, which is closed after its last film. What fails leaves everything as it was.
"""

import threading
import weakref
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hilum.bundle.card import ModelCard
from hilum.bundle.reading import Bundle
from hilum.bundle.signature import read_trusted
from hilum.errors import BundleError, HilumError, ServiceError
from hilum.imaging.sandbox import Sandbox
from hilum.imaging.viewing import ViewerFilm
from hilum.records.registry import PLAN_IN_FORCE, Deployment, PlanInForce, Registered, Registry, assigned
from hilum.records.values import HeatmapRecord, NewAnswer, ShadowAnswer
from hilum.service.answering import Model, Ready
from hilum.service.bundled import Bundled, open_model
from hilum.service.film_files import StoredFilm
from hilum.service.logs import logger, where
from hilum.service.settings import Settings
from hilum.service.shelf import Shelf

LOOK_EVERY_S = 1.0
"""How often the registry is asked whether another process changed it, and models without films are closed."""

Load = Callable[[Path, Bundle], AbstractContextManager[Bundled]]


class _Held:
    """A film read for one model; while it lives, that model is not closed."""

    __slots__ = ("__weakref__", "prepared", "served", "shadow")

    def __init__(self, served: "_Served") -> None:
        self.served, self.prepared = served, None
        self.shadow: _Held | None = None  # the same film read for a candidate that answers unseen
        served.films.add(self)


class _Served:
    """A model that is loaded."""

    def __init__(self, loading: AbstractContextManager[Bundled]) -> None:
        self._loading = loading
        self.bundled = loading.__enter__()
        self.films: weakref.WeakSet[_Held] = weakref.WeakSet()

    def close(self) -> None:
        self._loading.__exit__(None, None, None)


@dataclass(frozen=True, slots=True, kw_only=True)
class _State:
    """What holds now; exchanged as one."""

    holds: Deployment
    served: Mapping[str, _Served]

    @property
    def production(self) -> _Served:
        return self.served[self.holds.production]


class Switch:
    """Answers and draws with the models that the registry names.

    Args:
        shelf: the bundles.
        registry: which of them are in production or on trial.
        load: opens a verified bundle at a path.
        changed: told the model in production, at the start and after each change.
    """

    def __init__(
        self, shelf: Shelf, registry: Registry, load: Load, *, changed: Callable[[Model], None] = lambda model: None
    ) -> None:
        self._shelf, self._registry, self._load, self.changed = shelf, registry, load, changed
        self._changing, self._stopping = threading.Lock(), threading.Event()
        self._state: _State | None = None
        self._retired: list[_Served] = []
        self._behind: str | None = None
        self._given: Bundle | None = None
        self._thread = threading.Thread(target=self._follow, name="hilum-switch", daemon=True)

    @property
    def holds(self) -> Deployment:
        """The row of the registry that is in force here."""
        return self._now.holds

    @property
    def model(self) -> Model:
        """The model in production."""
        return self._now.production.bundled.model

    def card(self, sha256: str) -> ModelCard | None:
        """What a bundle on the shelf says of itself; None when it isn't here or has no card."""
        return self._shelf.card(sha256)

    @property
    def trouble(self) -> str | None:
        """Why no film can be answered just now."""
        return self._now.production.bundled.trouble

    @property
    def behind(self) -> str | None:
        """Why what the registry names does not answer here; None when it does."""
        return self._behind

    @property
    def _now(self) -> _State:
        if self._state is None:
            raise ServiceError("No model is in production yet. Start the service with a bundle.")
        return self._state

    def begin(self, given: Path) -> None:
        """Load what is in production; a bundle that was never seen before is put there first.

        Args:
            given: the bundle that the service was started with.

        Raises:
            BundleError: it, or what is in production, can't be trusted or loaded.
            ServiceError: what is in production is not here.
        """
        bundle = self._given = self._shelf.put(given)
        known = any(one.sha256 == bundle.sha256 for one in self._registry.models())
        holds = self._registry.current()
        if holds is None:
            self._register(bundle, "service")
            holds = self._registry.begin(bundle.sha256, actor="service", reason="First start.")
        self._adopt(holds, tested=True)
        self._given = None
        if not known and holds.production != bundle.sha256:
            if self._registry.plan_in_force:  # what the records say goes on answering
                logger().warning("bundle not taken", reason=PLAN_IN_FORCE)
            else:
                reason = "The service was started with another bundle than before."
                self.activate(bundle.sha256, actor="service", reason=reason)
        self._thread.start()

    def look_again(self, given: Path) -> bool:
        """Put the bundle at a path into production if it is another one; True when it was.

        Raises:
            BundleError: it can't be trusted or loaded; what was active stays active.
        """
        bundle = self._shelf.put(given)
        if bundle.sha256 == self.holds.production:
            return False
        self.activate(bundle.sha256, actor="service", reason="The service was told to look at its bundle again.")
        return True

    def close(self) -> None:
        """Close all models."""
        self._stopping.set()
        if self._thread.ident is not None:
            self._thread.join()
        state, self._state = self._state, None
        for served in (*self._retired, *(state.served.values() if state else ())):
            served.close()

    def models(self) -> tuple[Registered, ...]:
        """All models that are known, in the order in which they came."""
        return self._registry.models()

    def arriving(self) -> AbstractContextManager[Path]:
        """A path for a bundle that is written now, for :meth:`register`."""
        return self._shelf.arriving()

    def register(self, copy: Path, *, actor: str) -> Registered:
        """Keep a bundle that was written at an arriving path of the shelf.

        Raises:
            BundleError: it can't be trusted.
        """
        return self._register(self._shelf.take(copy), actor)

    def activate(self, sha256: str, *, actor: str, reason: str, past_plan: bool = False) -> Deployment:
        """Put a model into production: verified, loaded and tested beside the present one, then exchanged in one step.

        Args:
            sha256: the model.
            actor: who.
            reason: why.
            past_plan: also where a change control plan is in force; it is recorded as an override.

        Raises:
            PlanInForce: a plan is in force, and ``past_plan`` is not given.
            BundleError: it can't be trusted or loaded, or fails its self-test; what was active stays active.
            UsageError: a candidate is on trial, or the reason is empty.
            ServiceError: the records are away, or somebody else changed them at the same moment.
        """
        with self._changing:
            if sha256 == self._now.holds.production:
                return self._now.holds
            if self._registry.plan_in_force and not past_plan:
                raise PlanInForce(PLAN_IN_FORCE)  # before anything is loaded
            bundle = self._shelf.open(sha256)
            served = self._now.served.get(sha256) or self._loaded(bundle)
            try:
                self._register(bundle, actor)
                holds = self._registry.activate(sha256, actor=actor, reason=reason, past_plan=past_plan)
            except BaseException:
                if served is not self._now.served.get(sha256):
                    served.close()
                raise
            self._exchange(holds, {sha256: served})
            return holds

    def prepare(self, film: StoredFilm) -> Ready:
        """Read one film for the model that its study is assigned to; raises FilmError."""
        state, held = self._hold()
        ready = held.served.bundled.prepare(film)
        study = ready.identity.study_instance_uid or str(getattr(ready.prepared, "sha256", film.file_sha256))
        other = state.served.get(assigned(state.holds, study).answers)
        if other is not None and other is not held.served:
            held = _Held(other)
            if self._state is not state:  # exchanged meanwhile, and perhaps closed before it was held
                return self.prepare(film)
            if not other.bundled.reads_as(ready):
                ready = other.bundled.prepare(film)
        held.prepared = ready.prepared
        held.shadow = self._in_shadow(state, study, film, ready)
        return replace(ready, prepared=held)

    def _in_shadow(self, state: _State, study: str, film: StoredFilm, ready: Ready) -> _Held | None:
        """The film read for a candidate in shadow; None without one. Whatever fails there stays there."""
        served = state.served.get(assigned(state.holds, study).shadow or "")
        if served is None:
            return None
        held = _Held(served)
        if self._state is not state:
            return None
        try:
            held.prepared = (ready if served.bundled.reads_as(ready) else served.bundled.prepare(film)).prepared
        except Exception as error:
            logger().warning("shadow did not read a film", **where(error))
            return None
        return held

    def answer(self, films: Sequence[Ready]) -> list[NewAnswer]:
        """Answer films, each by the model that it was read for."""
        by_model: dict[int, list[int]] = {}
        for i, film in enumerate(films):
            by_model.setdefault(id(film.prepared.served), []).append(i)
        answers: dict[int, NewAnswer] = {}
        for places in by_model.values():
            bundled: Bundled = films[places[0]].prepared.served.bundled
            group = [replace(films[i], prepared=films[i].prepared.prepared) for i in places]
            answers |= dict(zip(places, bundled.answer(group), strict=True))
        shadows = _shadow_answers(films)
        return [replace(answers[i], shadow=shadows.get(i)) for i in range(len(films))]

    def film(self, film: StoredFilm) -> bytes:
        """The film as a grey PNG; raises FilmError."""
        return self._now.production.bundled.film(film)

    def pixels(self, film: StoredFilm) -> ViewerFilm:
        """The film's 16-bit values; raises FilmError."""
        return self._now.production.bundled.pixels(film)

    def heatmap(
        self,
        film: StoredFilm,
        heatmap: HeatmapRecord,
        *,
        assessment: Mapping[str, Any],
        layer: bool,
        style: str = "heat",
    ) -> bytes:
        """A heat map over its film as a PNG, or alone; raises FilmError."""
        draw = self._now.production.bundled.heatmap
        return draw(film, heatmap, assessment=assessment, layer=layer, style=style)

    def _hold(self) -> tuple[_State, _Held]:
        """The model in production, and it stays open: held first, then looked whether it was exchanged in between."""
        while True:
            state = self._now
            held = _Held(state.production)
            if self._state is state:
                return state, held

    def _register(self, bundle: Bundle, actor: str) -> Registered:
        info, location = bundle.info, str(self._shelf.path(bundle.sha256))
        known = {one.sha256: one for one in self._registry.models()}.get(bundle.sha256)
        model = Registered(sha256=bundle.sha256, name=info.name, version=info.version, location=location)
        if known is None:
            self._registry.register(model, actor=actor)
        return known or model

    def _loaded(self, bundle: Bundle, *, tested: bool = False) -> _Served:
        name = f"{bundle.info.name} {bundle.info.version} ({bundle.sha256[:12]})"
        try:
            served = _Served(self._load(self._shelf.path(bundle.sha256), bundle))
        except HilumError as error:
            raise BundleError(f"Model {name} can't be loaded: {error} What was active stays active.") from None
        try:
            outcome = None if tested else served.bundled.self_test(bundle)
            if outcome is not None and not outcome.passed:
                raise BundleError(
                    f"Model {name} fails its self-test here: {outcome.worst} differs by "
                    f"{outcome.differences[outcome.worst]:.2g}, more than {outcome.tolerance:g}. What was active stays "
                    "active; run hilum bundle verify on it."
                )
        except BaseException:
            served.close()
            raise
        return served

    def _adopt(self, holds: Deployment, *, tested: bool = False) -> None:
        """Load what a row names and exchange; at a start without the self-test, which was passed before."""
        before = self._state.served if self._state else {}
        wanted = [holds.production, *([holds.candidate] if holds.candidate and holds.stage != "full" else [])]
        served: dict[str, _Served] = {}
        try:
            for sha256 in wanted:
                served[sha256] = before.get(sha256) or self._loaded(self._find(sha256), tested=tested)
        except BaseException:
            for sha256, one in served.items():
                if one is not before.get(sha256):
                    one.close()
            raise
        self._exchange(holds, served)

    def _find(self, sha256: str) -> Bundle:
        """The bundle on the shelf; one that only the registry knows is fetched from where it says."""
        if self._given is not None and self._given.sha256 == sha256:
            return self._given
        if not self._shelf.has(sha256):
            for one in self._registry.models():
                if one.sha256 == sha256 and Path(one.location).exists():
                    self._shelf.put(Path(one.location))
        if not self._shelf.has(sha256):
            raise ServiceError(
                f"Model {sha256[:12]} is in production by the records, and its bundle is not here. "
                "Start the service with that bundle once."
            )
        return self._shelf.open(sha256)

    def _exchange(self, holds: Deployment, served: Mapping[str, _Served]) -> None:
        before = self._state
        self._state = _State(holds=holds, served=served)
        self._behind = None
        if before is not None:
            self._retired += [one for one in before.served.values() if one not in served.values()]
        model = self.model
        logger().info("model in production", model=model.sha256, name=model.name, version=model.version)
        self.changed(model)

    def _follow(self) -> None:
        while not self._stopping.wait(LOOK_EVERY_S):
            self._close_idle()
            try:
                holds = self._registry.current()
            except ServiceError:
                continue  # health says that the records are away
            with self._changing:
                if holds is not None and holds.seq > self._now.holds.seq:
                    self._catch_up(holds)

    def _catch_up(self, holds: Deployment) -> None:
        """Another process changed what is in production."""
        try:
            self._adopt(holds)
        except Exception as error:
            reason = str(error) if isinstance(error, HilumError) else type(error).__name__
            self._behind = f"Model {holds.production[:12]} is in production by the records and not here: {reason}"
            logger().error("model not exchanged", **(where(error) | {"reason": reason}))

    def _close_idle(self) -> None:
        for served in [one for one in self._retired if not len(one.films)]:
            self._retired.remove(served)
            served.close()


def _shadow_answers(films: Sequence[Ready]) -> dict[int, ShadowAnswer]:
    """What candidates in shadow say, by place; nothing of those that fail, since nobody waits for them."""
    found: dict[int, ShadowAnswer] = {}
    places = [i for i, film in enumerate(films) if film.prepared.shadow is not None]
    by_model: dict[int, list[int]] = {}
    for i in places:
        by_model.setdefault(id(films[i].prepared.shadow.served), []).append(i)
    for group in by_model.values():
        bundled: Bundled = films[group[0]].prepared.shadow.served.bundled
        try:
            said = bundled.answer([replace(films[i], prepared=films[i].prepared.shadow.prepared) for i in group])
        except Exception as error:
            logger().warning("shadow did not answer", films=len(group), **where(error))
            continue
        for i, one in zip(group, said, strict=True):
            found[i] = ShadowAnswer(
                model_sha256=one.model_sha256, label=one.label, abstained=one.abstained, risk=one.risk
            )
    return found


def make_switch(settings: Settings, sandbox: Sandbox, registry: Registry, restarted: Callable[[str], None]) -> Switch:
    """A switch over the bundles in the data folder; it is to be begun.

    Args:
        settings: the data folder, trusted keys, and limits of the models' processes.
        sandbox: where films are read.
        registry: what is in production.
        restarted: told the reason when a model's process was started again.

    Raises:
        UsageError: a trusted key can't be read.
    """
    shelf = Shelf(settings.data / "models", read_trusted(settings.trusted_keys))
    return Switch(shelf, registry, lambda path, bundle: open_model(path, bundle, settings, sandbox, restarted))
