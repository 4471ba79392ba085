"""What one pass that answers everything costs, beside the bare forward pass and the usual ways to the same answer.

Run: OMP_NUM_THREADS=2 python benchmarks/one_pass.py --json one-pass.json

One network with random weights (times don't depend on them), three findings, one member unless said otherwise, fp32
throughout. What is compared runs in turn within each repeat; a ratio is the median of the ratios
within a repeat.

whole     the exported graph with all its outputs, by `hilum.inference`, as films are answered
bare      the same graph cut down to its logits: preprocessing inside the graph, encoder, head
usual     eager PyTorch: a forward pass, then for each finding a forward and a backward pass (as the grad-cam library
          does for each target; its own code where it is installed), then 32 forward passes of the whole network with
          dropout on; beside it and the next two, the whole answer's time is the mean of ten, one after the other
careful   eager PyTorch: one forward pass, one backward pass a finding, dropout repeated on the head alone
closest   as careful, but no gradient goes beyond the last feature map: the best that eager PyTorch can do

Films are synthetic phantom films. Memory and start are those of a fresh process that opens a bundle and answers one.
"""

import argparse
import copy
import functools
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
import torch
from _one_film import film_of, films_text, films_to_answers, reduced_films_to_answers, tiles_of_reduced_films
from _section import Save, head, in_turn, main, spread, table, verdict

from hilum.bundle.reference import ReferenceAnswers
from hilum.bundle.schema import BundleInfo
from hilum.bundle.writing import write_bundle
from hilum.datasets.phantom.cohort import plan_cohort
from hilum.datasets.phantom.config import PhantomConfig
from hilum.datasets.phantom.rendering import render
from hilum.imaging.preprocessing import Preprocessing, preprocess
from hilum.imaging.sandbox import ENVIRONMENT
from hilum.inference import openvino_runtime, runtimes
from hilum.inference.choosing import installed, open_runtime
from hilum.inference.machine import available_cpus
from hilum.inference.runtimes import Runtime
from hilum.models.classifier import Classifier, ClassifierConfig, build_classifier
from hilum.models.explained import SAMPLES, Explained
from hilum.models.export import INPUT, export_onnx

FINDINGS = ("normal", "pneumonia", "covid-19")
BARS = {"whole / bare": 1.05, "usual": 60.0, "careful": 8.0, "ensemble": 1.3}
MEMORY_MB, START_S = 500.0, 2.0

START = """
import json, resource, sys, time
started = time.perf_counter()
from pathlib import Path
from hilum.inference.assess import open_bundle
with open_bundle(sys.argv[1], runtime=sys.argv[3]) as opened:
    answer = opened.assess_prepared([opened.prepare(Path(sys.argv[2]))])[0]
    assert answer.analysed, answer.reasons
    seconds = time.perf_counter() - started
    now = next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmRSS"))
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps({"seconds": seconds, "rss_mb": now / 1024, "peak_mb": peak / 1024}))
"""
"""A process that opens a bundle and answers a film: seconds behind Python's own start, and its memory."""


ALLOCATION = {name: value for name, value in ENVIRONMENT.items() if name.startswith("MALLOC_")}
TEN = 10
"""Answers one after the other beside a usual way, whose mean is taken: the usual way itself is dozens of passes, of
which one alone finds a processor that has just done something else."""
PARTS = ("whole_bare", "usual", "ensembles", "films", "reduced", "starts")


def ratios(over: Sequence[float], under: Sequence[float]) -> list[float]:
    return [one / other for one, other in zip(over, under, strict=True)]


def classifier_of(options: argparse.Namespace, seed: int = 0) -> Classifier:
    config = ClassifierConfig(backbone=options.backbone, findings=FINDINGS, size=options.size)
    return build_classifier(config, "none", seed)[0].eval()


def bare_graph(model: bytes) -> bytes:
    """The graph cut down to what its logits need."""
    whole = onnx.load_from_string(model)
    return bytes(onnx.utils.Extractor(whole).extract_model([INPUT], ["logits"]).SerializeToString())


def bare_run(name: str, model: bytes, threads: int) -> Callable[[np.ndarray], object]:
    """The bare graph in a runtime, with the very settings that the whole one gets."""
    if name == "openvino":
        core = openvino_runtime.load_openvino().Core()
        compiled = core.compile_model(core.read_model(model), "CPU", openvino_runtime._properties(threads))
        request = compiled.create_infer_request()
        return lambda tiles: request.infer({0: tiles}, share_inputs=True)
    import onnxruntime

    options, providers = runtimes.session_options(threads), ["CPUExecutionProvider"]
    session = onnxruntime.InferenceSession(model, options, providers=providers)
    return lambda tiles: session.run(["logits"], {INPUT: tiles})


def whole_and_bare(options: argparse.Namespace, model: bytes, threads: int) -> list[dict[str, Any]]:
    bare, rows = bare_graph(model), []
    for name in installed():
        whole, alone = open_runtime(name, model, threads, size=options.size), bare_run(name, bare, threads)
        for batch in (1, 8):
            tiles = films_of(batch, options.size)
            ways = {"whole": lambda w=whole, t=tiles: w.run(t), "bare": lambda a=alone, t=tiles: a(t)}
            times = in_turn(ways, max(3, options.repeats // batch))
            rows.append({"runtime": whole.name, "precision": whole.precision, "batch": batch, **times})
    return rows


@functools.cache
def films_of(count: int, size: int) -> np.ndarray:
    """Prepared tiles uint8 [n, 1, h, w]."""
    plans = plan_cohort(PhantomConfig(patients=count, size=256, second_film_share=0))[:count]
    pixels = [(np.clip(render(plan).pixels, 0, 1) * 65535).astype(np.uint16) for plan in plans]
    return np.stack([preprocess(film, Preprocessing(size=size)) for film in pixels])[:, None]


def usual_ways(classifier: Classifier, films: torch.Tensor) -> dict[str, Callable[[], object]]:
    """What people do in eager PyTorch for the same answer."""
    layer = classifier.encoder.layer(classifier.encoder.layers[-1])
    findings = range(len(FINDINGS))

    def dropout_on(runs: Callable[[], torch.Tensor]) -> torch.Tensor:
        classifier.head.dropout.train()
        try:
            with torch.no_grad():
                return torch.stack([torch.softmax(runs(), 1) for _ in range(SAMPLES)])
        finally:
            classifier.head.dropout.eval()

    def heat(k: int) -> torch.Tensor:
        kept: list[torch.Tensor] = []
        handle = layer.register_forward_hook(lambda module, inputs, output: kept.append(output))
        logits = classifier(films)
        handle.remove()
        kept[0].retain_grad()
        classifier.zero_grad()
        logits[:, k].sum().backward()
        return torch.relu((kept[0].grad.mean((2, 3), keepdim=True) * kept[0]).sum(1))

    def usual() -> object:
        with torch.no_grad():
            probabilities = torch.softmax(classifier(films), 1)
        maps = library(films) if (library := grad_cam_library(classifier, layer)) else [heat(k) for k in findings]
        return probabilities, maps, dropout_on(lambda: classifier(films))

    def careful() -> object:
        kept: list[torch.Tensor] = []
        handle = layer.register_forward_hook(lambda module, inputs, output: kept.append(output))
        logits = classifier(films)
        handle.remove()
        kept[0].retain_grad()
        maps = []
        for k in findings:
            classifier.zero_grad()
            kept[0].grad = None
            logits[:, k].sum().backward(retain_graph=k < len(FINDINGS) - 1)
            maps.append(torch.relu((kept[0].grad.mean((2, 3), keepdim=True) * kept[0]).sum(1)))
        pooled = kept[0].detach().mean((2, 3))
        return torch.softmax(logits, 1), maps, dropout_on(lambda: classifier.head.from_pooled(pooled))

    def closest() -> object:
        with torch.no_grad():
            maps = classifier.features(films)
        logits = classifier.head(maps.requires_grad_())
        weights = [torch.autograd.grad(logits[:, k].sum(), maps, retain_graph=True)[0] for k in findings]
        heats = [torch.relu((one.mean((2, 3), keepdim=True) * maps).sum(1)) for one in weights]
        pooled = maps.detach().mean((2, 3))
        return torch.softmax(logits, 1), heats, dropout_on(lambda: classifier.head.from_pooled(pooled))

    return {"usual": usual, "careful": careful, "closest": closest}


def grad_cam_library(classifier: Classifier, layer: torch.nn.Module) -> Callable[[torch.Tensor], object] | None:
    """The grad-cam library's own way, where somebody installed it; it brings OpenCV, so we don't."""
    if importlib.util.find_spec("pytorch_grad_cam") is None:
        return None
    from pytorch_grad_cam import GradCAM
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    def maps(films: torch.Tensor) -> object:
        with GradCAM(model=classifier, target_layers=[layer]) as cam:
            return [cam(input_tensor=films, targets=[ClassifierOutputTarget(k)]) for k in range(len(FINDINGS))]

    return maps


def against_usual(
    options: argparse.Namespace, classifier: Classifier, model: bytes, threads: int
) -> list[dict[str, Any]]:
    tiles = films_of(1, options.size)
    eager = usual_ways(classifier, torch.from_numpy(tiles))
    rows = []
    for name in installed():
        whole = open_runtime(name, model, threads, size=options.size)

        def ten(runtime: Runtime = whole) -> None:
            for _ in range(TEN):
                runtime.run(tiles)

        times = in_turn({"whole": ten, **eager}, options.slow_repeats, warm=1)
        times["whole"] = [one / TEN for one in times["whole"]]
        library = importlib.util.find_spec("pytorch_grad_cam") is not None
        rows.append({"runtime": whole.name, "precision": whole.precision, "library": library, **times})
    return rows


def ensembles(options: argparse.Namespace, classifier: Classifier, threads: int) -> dict[str, Any]:
    """Five members that share everything before the last block, against one."""
    members, cut = [classifier], classifier.encoder.last_block
    for seed in range(1, 5):
        other, fresh = copy.deepcopy(classifier), classifier_of(options, seed)
        for ours, theirs in zip(other.encoder.modules_from(cut), fresh.encoder.modules_from(cut), strict=True):
            ours.load_state_dict(theirs.state_dict())
        other.head.load_state_dict(fresh.head.state_dict())
        members.append(other)
    graphs = {"one": export_onnx(Explained([classifier])), "five": export_onnx(Explained(members, cut=cut))}
    rows = []
    for name in installed():
        opened = {key: open_runtime(name, graph, threads, size=options.size) for key, graph in graphs.items()}
        for batch in (1, 8):
            tiles = films_of(batch, options.size)
            ways = {key: (lambda r=runtime, t=tiles: r.run(t)) for key, runtime in opened.items()}
            times = in_turn(ways, max(3, options.repeats // batch))
            rows.append({"runtime": opened["one"].name, "batch": batch, **times})
    megabytes = {key: len(graph) / 1e6 for key, graph in graphs.items()}
    return {"cut": cut, "megabytes": megabytes, "rows": rows}


def bundle_of(model: bytes, size: int, path: Path, decoding: Literal["full", "reduced"] = "full") -> Path:
    """The smallest bundle around a graph; everything else about it means nothing."""
    tiles = films_of(2, size)
    outputs = runtimes.OnnxRuntime(model, 1).run(tiles).as_mapping()
    info = BundleInfo(
        name="timed",
        version="0",
        created="2026-01-01T00:00:00Z",
        findings=FINDINGS,
        preprocessing=Preprocessing(size=size, decoding=decoding),
        intended_use="Timing.",
    )
    reference = ReferenceAnswers(tiles=tiles, outputs=outputs)
    return write_bundle(path, info=info, model_onnx=model, reference=reference, card_markdown="# Timed\n")


def films_of_both_ways(options: argparse.Namespace, bundle: Path, reducing: Path, threads: int) -> list[dict[str, Any]]:
    return films_to_answers(options, bundle, threads) + reduced_films_to_answers(options, reducing, threads)


def starts(options: argparse.Namespace, bundle: Path, work: Path) -> list[dict[str, Any]]:
    film = work / "film.dcm"
    film.write_bytes(film_of(256 if options.smoke else 1024, "explicit-le"))
    rows = []
    plain = {name: value for name, value in os.environ.items() if name not in ALLOCATION}
    for name in installed():
        command = [sys.executable, "-c", START, str(bundle), str(film), name]
        done = [
            json.loads(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=plain).stdout)
            for _ in range(2 if options.smoke else 5)
        ]
        rows.append({"runtime": name, **{key: [one[key] for one in done] for key in done[0]}})
    return rows


def measure(options: argparse.Namespace, save: Save) -> dict[str, Any]:
    if options.smoke:
        options.backbone, options.size, options.repeats, options.slow_repeats = "hilum_small", 64, 3, 1
    threads = 1 if options.smoke else available_cpus()
    torch.set_num_threads(threads)
    classifier = classifier_of(options)
    model = export_onnx(Explained([classifier]))
    found: dict[str, Any] = {"backbone": options.backbone, "size": options.size, "runtime_threads": threads}
    found["megabytes"], found["allocation"] = len(model) / 1e6, ALLOCATION
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        bundle = bundle_of(model, options.size, work / "timed.hilum")
        reducing = bundle_of(model, options.size, work / "reducing.hilum", "reduced")
        parts: tuple[tuple[str, Callable[[], Any]], ...] = (
            ("whole_bare", lambda: whole_and_bare(options, model, threads)),
            ("usual", lambda: against_usual(options, classifier, model, threads)),
            ("ensembles", lambda: ensembles(options, classifier, threads)),
            ("films", lambda: films_of_both_ways(options, bundle, reducing, threads)),
            ("reduced", lambda: tiles_of_reduced_films(options)),
            ("starts", lambda: starts(options, bundle, work)),
        )
        for name, part in parts:
            if name in options.parts:
                found[name] = part()
                save(found)
    return found


def write(found: dict[str, Any]) -> str:
    subject = (
        f"{found['backbone']} at {found['size']}², {len(FINDINGS)} findings, fp32, {found['runtime_threads']} threads "
        f"of each runtime, random weights, synthetic films; the graph has {found['megabytes']:.1f} MB. Milliseconds: "
        "median (smallest–largest).\n\n"
    )
    parts = [_whole_bare(found), _usual(found), _ensembles(found), films_text(found), _starts(found)]
    return f"{head(found)}\n{subject}" + "\n".join(parts)


def _whole_bare(found: dict[str, Any]) -> str:
    rows = []
    for row in found.get("whole_bare", []):
        times = ratios(row["whole"], row["bare"])
        bar = verdict(statistics.median(times), BARS["whole / bare"], ".2f", least=False)
        shown = (spread(row["whole"]), spread(row["bare"]), spread(times, ".3f"))
        rows.append([f"{row['runtime']} {row['precision']}", str(row["batch"]), *shown, bar])
    columns = ["runtime", "batch", "whole answer, ms", "bare forward, ms", "whole / bare", "bar"]
    return "### Beside the bare forward pass\n\n" + table(columns, rows)


def _usual(found: dict[str, Any]) -> str:
    rows = []
    for row in found.get("usual", []):
        for way in ("usual", "careful", "closest"):
            times = ratios(row[way], row["whole"])
            bar = verdict(statistics.median(times), BARS[way]) if way in BARS else "none"
            shown = (spread(row[way]), spread(row["whole"]), spread(times))
            rows.append([f"{way}, beside {row['runtime']}", *shown, bar])
    by = any(row["library"] for row in found.get("usual", []))
    heat = (
        "the grad-cam library" if by else "a forward and a backward pass a finding, as the grad-cam library makes them"
    )
    words = f"### Beside the usual ways in eager PyTorch, one film\n\nHeat maps of the usual way by {heat}. "
    words += f"The whole answer's time is the mean of {TEN}, one after the other.\n\n"
    columns = ["way", "its ms", "whole answer, ms", "times faster", "bar"]
    return words + table(columns, rows)


def _ensembles(found: dict[str, Any]) -> str:
    part = found.get("ensembles")
    if not part:
        return ""
    rows = []
    for row in part["rows"]:
        times = ratios(row["five"], row["one"])
        bar = verdict(statistics.median(times), BARS["ensemble"], ".2f", least=False)
        shown = (spread(row["five"]), spread(row["one"]), spread(times, ".3f"))
        rows.append([row["runtime"], str(row["batch"]), *shown, bar])
    sizes = part["megabytes"]
    words = f"Shared up to `{part['cut']}`; the graph grows from {sizes['one']:.1f} to {sizes['five']:.1f} MB.\n\n"
    columns = ["runtime", "batch", "five members, ms", "one, ms", "five / one", "bar"]
    return "### Five members on one prefix\n\n" + words + table(columns, rows)


def _starts(found: dict[str, Any]) -> str:
    rows = []
    for row in found.get("starts", []):
        seconds, memory = statistics.median(row["seconds"]), statistics.median(row["rss_mb"])
        rows.append(
            [
                row["runtime"],
                spread(row["seconds"], ".2f"),
                verdict(seconds, START_S, ".1f", least=False),
                spread(row["rss_mb"], ".0f"),
                verdict(memory, MEMORY_MB, ".0f", least=False),
            ]
        )
    words = "A fresh process opens the bundle and answers one film; seconds behind Python's own start.\n\n"
    columns = ["runtime", "start to first answer, s", "bar", "resident memory, MB", "bar"]
    return "### Start and memory\n\n" + words + table(columns, rows)


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS, help="of the section; all when not given")
    parser.add_argument("--backbone", default="densenet121")
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--repeats", type=int, default=40, help="runs of what takes milliseconds")
    parser.add_argument("--slow-repeats", type=int, default=7, help="runs of what takes seconds")


def allocate_like_a_decoder() -> None:
    """Start this script anew with the C library's settings of the children that decode films, where it hasn't them.

    Else every array of a film is asked of the kernel page by page and given back, which no decoder does twice.
    """
    if not ALLOCATION.items() <= os.environ.items():
        os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | ALLOCATION)


if __name__ == "__main__":
    allocate_like_a_decoder()
    main(__doc__ or "", measure, write, add)
