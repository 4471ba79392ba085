"""What the benchmarks share: numbers are measured into a JSON, and a section of docs/benchmarks.md is written from it.

Every script has the same options: ``--json FILE`` keeps the raw numbers, ``--from FILE`` writes the section from kept
ones without measuring, ``--smoke`` measures something tiny that shows that the script works and nothing else.
"""

import argparse
import contextlib
import functools
import json
import os
import shlex
import statistics
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from hilum.files import write_json
from hilum.provenance import environment

Save = Callable[[dict[str, Any]], None]
"""Keeps what is measured so far, so that a long measurement that is stopped leaves something."""


def main(
    doc: str,
    measure: Callable[[argparse.Namespace, Save], dict[str, Any]],
    write: Callable[[dict[str, Any]], str],
    add: Callable[[argparse.ArgumentParser], None] = lambda parser: None,
) -> None:
    """Measure (or read) and print the section.

    Args:
        doc: the script's docstring.
        measure: options and what keeps numbers so far → plain JSON values.
        write: these values → the section's Markdown.
        add: adds the script's own options.
    """
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="where raw numbers are kept")
    parser.add_argument(
        "--from", type=Path, dest="kept", help="write the section from such a file; nothing is measured"
    )
    parser.add_argument("--smoke", action="store_true", help="tiny: shows that it works, its numbers mean nothing")
    add(parser)
    options = parser.parse_args()
    if options.kept:
        print(write(json.loads(options.kept.read_text())).rstrip())
        return
    about = {"command": command(), "machine": machine(), "smoke": options.smoke}

    def save(measured: dict[str, Any]) -> None:
        if options.json:
            write_json(options.json, about | measured)

    measured = measure(options, save)
    save(measured)
    print(write(about | measured).rstrip())


def command() -> str:
    """The command that is running; what lies outside the tree is named without its place."""
    words = [Path(word).name if word.startswith("/") else word for word in sys.argv[1:]]
    while "--json" in words:
        del words[words.index("--json") : words.index("--json") + 2]
    return shlex.join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *words])


def machine() -> dict[str, Any]:
    """Processor, cores, packages and commit."""
    found = environment()
    kept = {name: found[name] for name in ("processor", "cpu_count", "python", "packages", "commit")}
    return kept | {"threads": os.environ.get("OMP_NUM_THREADS", "all"), "bf16": bf16()}


def gains_by_bf16() -> bool:
    """Whether the processor multiplies faster in bf16 than in fp32."""
    import torch

    from hilum.training import bf16 as narrow

    return narrow.gains_by_bf16(torch.device("cpu"))


def bf16() -> bool:
    """Whether the processor multiplies bf16 in hardware."""
    import torch

    from hilum.training.bf16 import has_bf16

    return has_bf16(torch.device("cpu"))


def head(measured: dict[str, Any]) -> str:
    """The first lines of a section: the machine and the command, and whether the numbers mean anything."""
    one = measured["machine"]
    narrow = "bf16 in hardware" if one["bf16"] else "no bf16 in hardware"
    versions = ", ".join(f"{name} {one['packages'][name]}" for name in ("torch",) if name in one["packages"])
    tiny = "**A smoke run: these numbers mean nothing.**\n\n" if measured["smoke"] else ""
    return (
        f"{tiny}{one['processor']}, {one['cpu_count']} CPUs ({one['threads']} threads), {narrow}; Python "
        f"{one['python']}, {versions}; commit {one['commit'] or 'unknown'}.\n`{measured['command']}`\n"
    )


def spread(values: Sequence[float], shown: str = ".1f") -> str:
    """Median, with the smallest and the largest where there are several."""
    low, mid, high = (f(values) for f in (min, statistics.median, max))
    return f"{mid:{shown}}" if len(values) == 1 else f"{mid:{shown}} ({low:{shown}}–{high:{shown}})"


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; all columns but the first are numbers."""
    lines = [columns, ["---", *["---:"] * (len(columns) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def verdict(value: float, bar: float, shown: str = ".1f", *, least: bool = True) -> str:
    """The bar, and whether a median meets it."""
    met = value >= bar if least else value <= bar
    return f"{'≥' if least else '≤'} {bar:{shown}}: {'met' if met else '**not met**'}"


def in_turn(ways: Mapping[str, Callable[[], object]], repeats: int, warm: int = 2) -> dict[str, list[float]]:
    """Milliseconds of each way, taken in turn, so that a slow moment of the machine meets all of them."""
    for run in ways.values():
        for _ in range(warm):
            run()
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(repeats):
        for name, run in ways.items():
            started = time.perf_counter()
            run()
            times[name].append(1000.0 * (time.perf_counter() - started))
    return times


@contextlib.contextmanager
def clocked(places: Sequence[tuple[object, str, str | Callable[..., str]]]) -> Iterator[dict[str, float]]:
    """Seconds that functions take inside the block, each without the clocked ones that it calls.

    Args:
        places: (owner, attribute, name); the name may be a function of the call's arguments.

    Yields:
        name → seconds so far, for calls from the thread that entered.
    """
    seconds: dict[str, float] = {}
    inside: list[float] = []
    thread = threading.get_ident()

    def watched(function: Callable[..., Any], name: str | Callable[..., str]) -> Callable[..., Any]:
        @functools.wraps(function)
        def call(*args: Any, **keywords: Any) -> Any:
            if threading.get_ident() != thread:
                return function(*args, **keywords)
            inside.append(0.0)
            started = time.perf_counter()
            try:
                return function(*args, **keywords)
            finally:
                whole = time.perf_counter() - started
                known = name if isinstance(name, str) else name(*args)
                seconds[known] = seconds.get(known, 0.0) + whole - inside.pop()
                if inside:
                    inside[-1] += whole

        return call

    own = [(owner, attribute, getattr(owner, attribute), name) for owner, attribute, name in places]
    try:
        for owner, attribute, function, name in own:
            setattr(owner, attribute, watched(function, name))
        yield seconds
    finally:
        for owner, attribute, function, _ in own:
            setattr(owner, attribute, function)
