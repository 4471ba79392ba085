"""Counts for Prometheus, in the text format 0.0.4: no label holds more than a route's pattern, a state, a status or a
destination's name."""

import shutil
from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric

from hilum.errors import ServiceError
from hilum.records.alarms import Alarms
from hilum.records.look_ups import LookUps
from hilum.records.results_out import DELIVERY_STATES, Outbox
from hilum.records.store import Store
from hilum.records.values import STATES
from hilum.service.health import Health

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10, 30, 60)


class Metrics:
    """What one service counts.

    Args:
        store: asked for the films in each state when somebody asks us.
        outbox: asked for the results in each state.
        look_ups: asked for the look-ups of priors in each state.
        alarms: asked for the monitor's alarms that are not closed.
        films_folder: whose disk is watched.
    """

    def __init__(self, store: Store, outbox: Outbox, look_ups: LookUps, alarms: Alarms, films_folder: str) -> None:
        self._store, self._outbox, self._look_ups, self._folder = store, outbox, look_ups, films_folder
        self._alarms = alarms
        self.health: Callable[[], Health] | None = None
        """Says which part is well, once there is a reading room."""
        self.registry = CollectorRegistry()
        self._requests = Counter(
            "hilum_http_requests", "HTTP requests by route and status.", ("route", "status"), registry=self.registry
        )
        self._seconds = Histogram(
            "hilum_http_request_seconds",
            "Time to the reply's end.",
            ("route",),
            buckets=SECONDS,
            registry=self.registry,
        )
        self._worked = Counter(
            "hilum_films_worked_on",
            "Films taken in hand, by the state they were left in.",
            ("state",),
            registry=self.registry,
        )
        self._work_seconds = Histogram(
            "hilum_film_work_seconds", "Time from lease to record.", buckets=SECONDS, registry=self.registry
        )
        self._model_restarts = Counter(
            "hilum_model_restarts", "Times that the model's process was started again.", registry=self.registry
        )
        self._dicom_films = Counter(
            "hilum_dicom_films",
            "Films by C-STORE to the listener, by what became of them.",
            ("outcome",),
            registry=self.registry,
        )
        self._dicom_refusals = Counter(
            "hilum_dicom_refusals",
            "DICOM connections and associations that were refused or cut off, by reason.",
            ("code",),
            registry=self.registry,
        )
        self._connections_closed = Counter(
            "hilum_http_connections_closed",
            "HTTP connections that were refused or cut off, by reason.",
            ("code",),
            registry=self.registry,
        )
        self._listener_restarts = Counter(
            "hilum_listener_restarts",
            "Times that the DICOM listener's process was started again.",
            registry=self.registry,
        )
        self.registry.register(self)  # collect() is all that it needs

    def request(self, route: str, status: int, seconds: float) -> None:
        """Count a request.

        Args:
            route: method and pattern, never an address.
            status: of the reply; 0 when the peer went away before one.
            seconds: to the reply's end.
        """
        self._requests.labels(route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def worked(self, state: str | None, seconds: float) -> None:
        """Count a film that a worker had in hand.

        Args:
            state: where it is now; None when the lease was lost.
            seconds: from the lease on.
        """
        self._worked.labels(state or "lease-lost").inc()
        self._work_seconds.observe(seconds)

    def model_restarted(self) -> None:
        """Count that the model's process was started again."""
        self._model_restarts.inc()

    def dicom_film(self, outcome: str) -> None:
        """Count a film by C-STORE.

        Args:
            outcome: ``received``, ``refused`` or ``skipped``.
        """
        self._dicom_films.labels(outcome).inc()

    def dicom_refusal(self, code: str) -> None:
        """Count a DICOM peer that was refused or cut off.

        Args:
            code: why, one of few.
        """
        self._dicom_refusals.labels(code).inc()

    def connection_closed(self, code: str) -> None:
        """Count an HTTP connection that was refused or cut off.

        Args:
            code: why, one of few.
        """
        self._connections_closed.labels(code).inc()

    def listener_restarted(self, _: str) -> None:
        """Count that the DICOM listener's process was started again."""
        self._listener_restarts.inc()

    def collect(self) -> Iterator[Metric]:
        """What is looked at only when asked."""
        films = GaugeMetricFamily("hilum_films", "Films in the records by state.", labels=["state"])
        results = GaugeMetricFamily(
            "hilum_results", "Results by destination and state.", labels=["destination", "state"]
        )
        look_ups = GaugeMetricFamily("hilum_look_ups", "Look-ups of priors in the PACS by state.", labels=["state"])
        alarms = GaugeMetricFamily(
            "hilum_alarms_open", "Alarms of the monitor that are not closed, by state.", labels=["state"]
        )
        up = GaugeMetricFamily("hilum_records_up", "1 while the records can be read.")
        try:
            counts = self._store.counts()
            for state in STATES:
                films.add_metric([state], counts.get(state, 0))
            for destination, sent in sorted(self._outbox.counts().items()):
                for where in DELIVERY_STATES:
                    results.add_metric([destination, where], sent.get(where, 0))
            for where, number in sorted(self._look_ups.counts().items()):
                look_ups.add_metric([where], number)
            for where, number in self._alarms.counts().items():
                alarms.add_metric([where], number)
            up.add_metric([], 1)
        except ServiceError:
            up.add_metric([], 0)
        ready = GaugeMetricFamily(
            "hilum_ready", "1 while a part is well, as /health/ready says; else 0.", labels=["part"]
        )
        for part, said in (self.health().checks if self.health else {}).items():
            ready.add_metric([part], said == "ok")
        free = GaugeMetricFamily("hilum_disk_free_bytes", "Free bytes where films lie.")
        free.add_metric([], shutil.disk_usage(self._folder).free)
        yield from (films, results, look_ups, alarms, up, ready, free)

    def text(self) -> bytes:
        """All of it."""
        return generate_latest(self.registry)
