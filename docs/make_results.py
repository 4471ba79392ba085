"""Write ``docs/results.md`` from artefacts: a finished demo, a finished run on real films, and its evaluation.

``python docs/make_results.py --demo demo --real runs/chest``; the page's part on the lab is left as it is, since
``docs/make_topics.py`` fills it.
"""

import argparse
import json
from pathlib import Path
from typing import Any

from hilum.datasets.manifest import Manifest
from hilum.evaluation.scorecard import score
from hilum.evaluation.shipped_calibration import ShippedCalibration
from hilum.intervals import p_value
from hilum.predictions import Predictions

PAGE = Path(__file__).with_name("results.md")

INTRODUCTION = """# Results

Made by `python docs/make_results.py --demo demo --real runs/chest` from what the commands below wrote; no number is typed by
hand. Intervals are 95 %, by patient bootstrap (1,000 resamples; Wilson where a share rests on few patients). Waiting times are
in [benchmarks.md](benchmarks.md)."""

LAB = "## The lab"

DEMO = """## The demo: synthetic films

`make demo ARGS=--exit` on {machine}: **{seconds} s** in all, other work on the same machine included. The films are synthetic phantoms
(`hilum.datasets.phantom`, difficulty 1, seed 0): the numbers say that the way works from end to end, and nothing about patients.

| test | films | macro AUROC | accuracy |
|---|---|---|---|
{tests}

| finding | AUROC inside | AUROC outside |
|---|---|---|
{findings}

**Starting point.** The same network and films, but no even match: from the shipped encoder an ensemble of five is trained, from scratch
one network for at most 12 epochs, so that the demo stays short. It says what a short training buys, not what scratch can reach.

| start | test | macro AUROC | training |
|---|---|---|---|
{comparison}

**Heat maps** (Grad-CAM in closed form, of the true finding, second hospital) against the lesion masks: share of films whose hottest
point lies inside the lesion.

| finding | hit rate | chance |
|---|---|---|
{localisation}

{pointing}

**Against a linear model**: `python benchmarks/phantom_difficulty.py --demo demo` fits one on 32 × 32 pixels of the same films.

Seconds by step: {steps}."""

REAL = """## Real films: a red verdict

{all_films:,} public frontal films (NIH ChestX-ray14, and the covid-chestxray-dataset of Cohen et al.), {patients} patients. Every COVID-19 film
comes from one source. MobileNetV2, ImageNet weights from a file, recipe `starter`, five folds by patient; {machine}.

```sh
hilum data import ../shared/data/chest/manifest.csv --out chest.parquet
hilum data split chest.parquet --by patient --out split.parquet
hilum train split.parquet --backbone mobilenet_v2 --folds 5 --out runs/chest \\
    --weights ../shared/data/weights/mobilenet_v2_imagenet_dequant_bnfolded.safetensors
hilum evaluate runs/chest
```

Training took {training} s and the frozen layers {prefix} s (a few seconds mean that the cache had them from an earlier run on the
same films), with other work on the same machine. The report's verdict is **{verdict}**:
*{headline}*

{flags}

Locked test share ({films} films, {test_patients} patients), which must be read with the sentences above:

| finding | AUROC | sensitivity | specificity | PPV |
|---|---|---|---|---|
{findings}

Accuracy {accuracy}; ECE {ece} after calibration (perfect calibration would show {ece_if_perfect:.3f} on so many films). {calibration}
Out-of-fold AUROC on the fit part: {out_of_fold}.

| pair | over all sources | inside one source |
|---|---|---|
{pairs}

{conclusion}

**Audits** (`docs/validation.md` says what each asks): {asked} questions could be answered, {alarms} raised an alarm.

| alarm | about | value | if nothing were wrong | p (Holm) |
|---|---|---|---|---|
{alarm_rows}"""


def demo_section(folder: Path) -> str:
    """The demo's numbers."""
    told = json.loads((folder / "demo.json").read_text())
    environment = json.loads((folder / "runs" / "chest" / "environment.json").read_text())
    names = told["auroc"]["internal"]
    return DEMO.format(
        machine=machine(environment),
        seconds=told["seconds"]["all"],
        tests=rows(
            (name, told["films"][name], told["macro_auroc"][name], told["accuracy"][name])
            for name in ("internal", "external")
        ),
        findings=rows((name, told["auroc"]["internal"][name], told["auroc"]["external"][name]) for name in names),
        comparison=rows((r["name"], r["test"], r["macro_auroc"], f"{r['seconds']:.0f} s") for r in told["comparison"]),
        localisation=rows((n, v["hit_rate"], v["chance"]) for n, v in told["localisation"].items()),
        pointing=pointing(told["localisation"]),
        steps=", ".join(
            f"{name.split(':')[0].lower()} {value:.0f}" for name, value in told["seconds"].items() if name != "all"
        ),
    )


def pointing(found: dict[str, Any]) -> str:
    """Which findings' maps point better than chance, in words."""
    low = {name: float(v["hit_rate"].split("(")[1].split("–")[0]) for name, v in found.items() if name != "all"}
    good = [name for name, value in low.items() if value > found[name]["chance"]]
    bad = [name for name in low if name not in good]
    said = [f"The maps of {' and '.join(good)} point at the lesion better than chance."] if good else []
    said += [f"Those of {' and '.join(bad)} do not, and the report says so under its verdict."] if bad else []
    return " ".join(said)


def real_section(run: Path) -> str:
    """The real run's numbers."""
    result = json.loads((run / "result.json").read_text())
    card = json.loads((run / "evaluation" / "internal" / "scorecard.json").read_text())
    report = json.loads((run / "report.json").read_text())
    films = Manifest.read(run / "split.parquet", thumbs=False)
    red = [flag["sentence"] for flag in card["confounding"]["flags"] if flag["severity"] == "red"]
    calibration = card["calibration_after"]
    return REAL.format(
        all_films=len(films),
        patients=len(set(films.strings("patient_id"))),
        machine=machine(result["environment"]),
        training=f"{result['seconds']['training']:.0f}",
        prefix=f"{result['seconds']['prefix']:.0f}",
        verdict=report["verdict"]["colour"],
        headline=report["verdict"]["headline"],
        flags="\n".join(f"- {sentence}" for sentence in red),
        films=card["films"],
        test_patients=card["patients"],
        findings=rows(
            (name, *(text(card[kind][name]) for kind in ("auroc", "sensitivity", "specificity", "precision")))
            for name in card["findings"]
        ),
        accuracy=text(card["accuracy"]),
        ece=text(calibration["ece"], 3),
        ece_if_perfect=calibration["ece_if_perfect"],
        calibration=ShippedCalibration.of(result, len(card["findings"])).sentence,
        out_of_fold=out_of_fold(run),
        pairs=rows(pair_rows(card)),
        conclusion=conclusion(card),
        **audits(report["audits"]["rows"]),
    )


def audits(found: list[dict[str, Any]]) -> dict[str, Any]:
    """The audits that raised an alarm."""
    alarms = [row for row in found if row["verdict"] == "alarm"]
    return {
        "asked": sum(row["verdict"] != "not estimable" for row in found),
        "alarms": len(alarms),
        "alarm_rows": rows(
            (row["name"], row["about"], text(row["value"]), short(row["chance"]), p_value(row["adjusted"], ".2g"))
            for row in alarms
        )
        or "| none | – | – | – | – |",
    }


def short(value: float | None) -> str:
    """A number of two digits."""
    return "–" if value is None else f"{value:.2g}"


def conclusion(card: dict[str, Any]) -> str:
    """What the pairs inside one source say, computed from their intervals."""
    said = []
    for row in card["confounding"]["within_source"]:
        auroc = row["auroc"]
        if row["source"] != "all sources" and auroc["low"] is not None:
            chance = "holds chance (0.5)" if auroc["low"] <= 0.5 <= auroc["high"] else "does not hold chance (0.5)"
            said.append(f"Inside `{row['source']}` the interval of {row['first']} against {row['second']} {chance}.")
    return " ".join(said) or "No pair can be estimated inside one source."


def pair_rows(card: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Each pair of findings, over all films and inside each source where the pair can be estimated."""
    pairs: dict[str, dict[str, str]] = {}
    for row in card["confounding"]["within_source"]:
        pairs.setdefault(f"{row['first']} against {row['second']}", {})[row["source"]] = text(row["auroc"])
    inside = {
        pair: "; ".join(f"{s}: {v}" for s, v in found.items() if s != "all sources" and v != "not estimable")
        for pair, found in pairs.items()
    }
    return [(pair, found.get("all sources", "–"), inside[pair] or "not estimable") for pair, found in pairs.items()]


def out_of_fold(run: Path) -> str:
    """AUROC of each finding on out-of-fold predictions."""
    card = score(Predictions.read(run / "out_of_fold.parquet"), name="out of fold")
    return ", ".join(f"{name} {estimate.text()}" for name, estimate in card.auroc.items())


def text(estimate: dict[str, Any], digits: int = 2) -> str:
    """A value with its interval, as in the report."""
    if estimate["value"] is None:
        return "not estimable"
    numbers = [f"{estimate[key]:.{digits}f}" for key in ("value", "low", "high") if estimate[key] is not None]
    return numbers[0] if len(numbers) < 3 else f"{numbers[0]} ({numbers[1]}–{numbers[2]})"


def machine(environment: dict[str, Any]) -> str:
    """Processor and number of CPUs."""
    return f"{environment['processor']}, {environment['cpu_count']} CPU cores"


def rows(values: Any) -> str:
    """Rows of a Markdown table."""
    return "\n".join("| " + " | ".join(str(cell) for cell in row) + " |" for row in values)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--demo", type=Path, required=True)
    parser.add_argument("--real", type=Path, required=True)
    options = parser.parse_args()
    lab = PAGE.read_text().partition(f"\n{LAB}\n")
    clinic = "\n\n".join([INTRODUCTION, demo_section(options.demo), real_section(options.real)])
    PAGE.write_text(f"{clinic}\n\n{lab[1].lstrip()}{lab[2]}")
