"""How long one run takes on this machine; every number names its precision, threads and batch."""

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hilum.inference.runtimes import Runtime


@dataclass(frozen=True, slots=True, kw_only=True)
class Latency:
    """Time of one run of the graph, preprocessing not included."""

    runtime: str
    """Runtime and its version."""
    precision: str
    """What it computed in."""
    threads: int
    """Threads of one run."""
    batch: int
    """Films in one run."""
    median_ms: float
    """Median over the runs, in milliseconds."""
    best_ms: float
    """Shortest run, in milliseconds."""
    runs: int
    """Runs that were timed."""

    @property
    def films_per_s(self) -> float:
        """Films a second at the median."""
        return 1000.0 * self.batch / self.median_ms


def benchmark(
    runtime: Runtime, size: int, *, batches: Sequence[int] = (1, 8), budget_s: float = 1.0, most_runs: int = 50
) -> tuple[Latency, ...]:
    """Time a runtime.

    Args:
        runtime: what to time.
        size: height and width of the tiles.
        batches: films in one run, one row each.
        budget_s: about how long to measure each batch size; at least three runs are timed.
        most_runs: no more runs than this.

    Returns:
        one row a batch size.
    """
    return tuple(_time(runtime, size, batch, budget_s, most_runs) for batch in batches)


def _time(runtime: Runtime, size: int, batch: int, budget_s: float, most_runs: int) -> Latency:
    noise = np.random.Generator(np.random.PCG64(0)).integers(0, 256, (batch, 1, size, size), dtype=np.uint8)
    runtime.run(noise)
    times: list[float] = []
    end = time.perf_counter() + budget_s
    while len(times) < 3 or (time.perf_counter() < end and len(times) < most_runs):
        start = time.perf_counter()
        runtime.run(noise)
        times.append(1000.0 * (time.perf_counter() - start))
    return Latency(
        runtime=runtime.name,
        precision=runtime.precision,
        threads=runtime.threads,
        batch=batch,
        median_ms=statistics.median(times),
        best_ms=min(times),
        runs=len(times),
    )
