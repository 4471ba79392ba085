"""The sections of a report, each a function from scorecards to blocks; the tests stand side by side in every table."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hilum.evaluation.confounding import WORDS, Confounding, CrossTable
from hilum.evaluation.estimates import Estimate
from hilum.evaluation.metrics import PREVALENCES, predictive_values_at
from hilum.evaluation.scorecard import OLDER, CalibrationFigures, Scorecard
from hilum.evaluation.thresholds import OperatingPoint
from hilum.reports import figures as draw
from hilum.reports.page import Block, Details, Facts, Figures, Gallery, Notice, Paragraph, Picture, Section
from hilum.reports.tables import Cell, Column, Table, count, estimate_cell, number, percent, share_cell, table

METRICS = (
    ("auroc", "AUROC"),
    ("auprc", "AUPRC"),
    ("sensitivity", "sensitivity"),
    ("specificity", "specificity"),
    ("precision", "PPV"),
    ("npv", "NPV"),
    ("f1", "F1"),
    ("mcc", "MCC"),
)

OVERALL = (
    ("macro_auroc", "Mean AUROC over findings"),
    ("macro_auprc", "Mean average precision over findings"),
    ("accuracy", "Accuracy"),
    ("balanced_accuracy", "Balanced accuracy (mean sensitivity)"),
    ("macro_specificity", "Mean specificity over findings"),
    ("macro_precision", "Mean PPV over findings"),
    ("macro_npv", "Mean NPV over findings"),
    ("macro_f1", "Mean F1 over findings"),
    ("kappa", "Cohen's kappa"),
    ("mcc_over_findings", "MCC over all findings"),
)


Row = list[Cell | str]
Heads = list[Column | str]


def slug(name: str) -> str:
    """A name as part of a file name or an anchor."""
    return "-".join("".join(c if c.isalnum() else " " for c in name.casefold()).split())


def cell(estimate: Estimate, digits: int = 2) -> Cell:
    """An estimate as a table's cell."""
    return estimate_cell(estimate.value, estimate.low, estimate.high, reason=estimate.reason, digits=digits)


def notices(sentences: Sequence[str], openings: int | None) -> tuple[Notice, ...]:
    """What stands right below the verdict: what the films are, and a locked test that was opened more than once."""
    blocks = [Notice(tone="note", text=text) for text in sentences]
    if openings is not None and openings > 1:
        text = (
            f"The locked test films have been looked at {openings} times for this model. Choices made in between tune "
            "it to them, so the figures flatter it."
        )
        blocks.append(Notice(tone="amber", text=text))
    return tuple(blocks)


def main_figures(cards: Sequence[Scorecard]) -> Section:
    """The main table, the films it rests on, and AUROCs with their intervals as a figure."""
    level = percent(cards[0].settings.resampling.level)
    several = len(cards) > 1
    rows: list[Row] = [
        [
            finding if i == 0 else "",
            *([card.name] if several else []),
            *(_metric(card, metric, finding) for metric, _ in METRICS),
        ]
        for finding in cards[0].findings
        for i, card in enumerate(cards)
    ]
    caption = (
        f"Each finding against the rest, with {level} intervals by patient. Sensitivity to F1 take the most probable "
        "finding as the answer; PPV and NPV hold at the shares that these films have."
    )
    heads: Heads = [Column(title=title, number=True) for _, title in METRICS]
    blocks: list[Block] = [
        table(caption, ["finding", *(["test"] if several else []), *heads], rows),
        Figures((_auroc_figure(cards),)),
    ]
    blocks += [_at_prevalences(card, several) for card in cards]
    columns = [Column(title=card.name, number=True) for card in cards]
    overall: list[Row] = [[title, *(cell(getattr(card, metric)) for card in cards)] for metric, title in OVERALL]
    blocks += [table("Over all findings.", ["figure", *columns], overall), _films(cards)]
    return Section(name="figures", title="Figures", blocks=tuple(blocks))


def _at_prevalences(card: Scorecard, several: bool) -> Details:
    """PPV and NPV where a finding is rarer or commoner than among these films."""
    rows: list[Row] = []
    for finding in card.findings:
        rates = [np.asarray(rate[finding].value) for rate in (card.sensitivity, card.specificity)]
        values = [predictive_values_at(rates[0], rates[1], share) for share in PREVALENCES]
        rows.append([finding, *(f"{number(float(ppv))} / {number(float(npv), 3)}" for ppv, npv in values)])
    heads: Heads = [Column(title=percent(share), unit="PPV / NPV", number=True) for share in PREVALENCES]
    caption = (
        "From sensitivity and specificity by Bayes' rule, which holds only if both carry over to where the finding has "
        "that share."
    )
    name = f" ({card.name})" if several else ""
    return Details(
        summary=f"PPV and NPV at other shares of the finding{name}", blocks=(table(caption, ["finding", *heads], rows),)
    )


def _metric(card: Scorecard, metric: str, finding: str) -> Cell:
    """A figure's cell; older scorecards lack some, which shows as not estimable with the reason."""
    return cell(getattr(card, metric).get(finding, OLDER))


def _films(cards: Sequence[Scorecard]) -> Table:
    heads: Heads = [Column(title=card.name, unit="films (patients)", number=True) for card in cards]
    rows: list[Row] = [
        [finding, *(f"{count(card.class_films[finding])} ({count(card.class_patients[finding])})" for card in cards)]
        for finding in cards[0].findings
    ]
    rows.append(["all", *(f"{count(card.films)} ({count(card.patients)})" for card in cards)])
    rows.append(["unknown label, left out", *(f"{count(card.unlabelled)} (–)" for card in cards)])
    caption = "Films that the figures rest on. A patient with films of several findings counts in each."
    return table(caption, ["finding", *heads], rows)


def _auroc_figure(cards: Sequence[Scorecard]) -> draw.Figure:
    rows = []
    for finding in cards[0].findings:
        for card in cards:
            e = card.auroc[finding]
            label = f"{finding}, {card.name}" if len(cards) > 1 else finding
            row = draw.Interval(label=label, value=e.value, low=e.low, high=e.high, series=card.name, note=e.text())
            rows.append(row)
    lowest = min([0.5, *(row.low for row in rows if row.low == row.low)])
    return draw.forest_figure(
        rows,
        name="auroc",
        title="AUROC of each finding against the rest",
        xlabel="AUROC",
        limits=(max(0.0, lowest - 0.03), 1.005),
        reference=0.5,
        reference_label="chance",
    )


def decisions(cards: Sequence[Scorecard]) -> Section:
    """Confusion matrices and ROC curves."""
    drawn = []
    for card in cards:
        if any(map(any, card.confusion)):
            drawn.append(
                draw.confusion_figure(
                    card.confusion,
                    card.findings,
                    name=f"confusion-{slug(card.name)}",
                    title=f"Confusion matrix, {card.name}",
                    caption="Films, and their share of the row.",
                )
            )
    for card in cards:
        curves = [
            draw.Curve(
                label=f"{name}  {card.auroc[name].text()}",
                x=curve.false_positive_rate,
                y=curve.true_positive_rate,
                name=name,
            )
            for name, curve in card.roc.items()
        ]
        drawn.append(
            draw.roc_figure(
                curves,
                name=f"roc-{slug(card.name)}",
                title=f"ROC curves, {card.name}",
                caption="Each finding against the rest; AUROC with its interval.",
            )
        )
    return Section(name="decisions", title="Decisions and ranking", blocks=(Figures(tuple(drawn)),))


def operating_points(cards: Sequence[Scorecard], chosen: Mapping[str, OperatingPoint]) -> Section | None:
    """Thresholds as chosen on validation films and as tested."""
    if not chosen and not any(card.operating_points for card in cards):
        return None
    rules = {"sensitivity-floor": "floor of sensitivity", "youden": "Youden", "cost": "least cost"}
    sources = [("validation", chosen), *((card.name, card.operating_points) for card in cards)]
    rows: list[Row] = []
    for finding in cards[0].findings:
        first = True
        for name, points in sources:
            if finding in points:
                point = points[finding]
                rows.append(
                    [
                        Cell(text=finding, detail=point.aim or rules[point.rule]) if first else "",
                        name,
                        Cell(text=number(point.threshold, 3), reason=point.reason if name == "validation" else ""),
                        cell(point.sensitivity),
                        cell(point.specificity),
                        percent(point.flagged),
                    ]
                )
                first = False
    heads: Heads = [
        Column(title="threshold", unit="probability", number=True),
        Column(title="sensitivity", number=True),
        Column(title="specificity", number=True),
        Column(title="called positive", unit="share of films", number=True),
    ]
    caption = (
        "Thresholds were chosen on validation films (so their figures there are optimistic), fixed, and then tested."
    )
    if any(point.rule == "sensitivity-floor" for _, points in sources for point in points.values()):
        caption += " A missed finding is the worst error, so every finding but normal has a floor of sensitivity."
    block = table(caption, ["finding", "films", *heads], rows)
    return Section(name="operating-points", title="Operating points", blocks=(block,))


def calibration(cards: Sequence[Scorecard], done: str) -> Section:
    """Whether probabilities can be taken at their word, before and after calibration."""
    blocks: list[Block] = []
    if done:
        blocks.append(Paragraph(done))
    if any(card.calibration_optimistic for card in cards):
        blocks.append(Notice(tone="amber", text=next(w for w in cards[0].warnings if "calibration is optimistic" in w)))
    figures = ("nll", "brier", "ece", "ece_mass")
    rows: list[Row] = []
    for card in cards:
        for when, made in (("before", card.calibration_before), ("after", card.calibration_after)):
            bias = f"{number(made.ece_if_perfect, 3)} ({number(made.ece_if_perfect_high, 3)})"
            rows.append([f"{card.name}, {when}", *(cell(getattr(made, name), 3) for name in figures), Cell(text=bias)])
    heads: Heads = [
        Column(title="NLL", unit="nats, lower is better", number=True),
        Column(title="Brier score", unit="0 … 2, lower is better", number=True),
        Column(title="ECE", unit="equal width", number=True),
        Column(title="ECE", unit="equal mass", number=True),
        Column(title="ECE if perfect", unit="mean (95th percentile)", number=True),
    ]
    caption = (
        "ECE is never negative, so even perfect probabilities show some on a finite set: the last column says how "
        "much. Only an ECE above its 95th percentile is a true miscalibration. Its interval is cleared of that excess, "
        "so it may lie below the figure."
    )
    blocks.append(table(caption, ["test", *heads], rows))
    blocks += [Paragraph(_calibration_sentence(card)) for card in cards if card.calibration_after.ece.estimable]
    drawn = [_reliability(card) for card in cards if any(card.calibration_after.reliability.values())]
    if drawn:
        blocks.append(Figures(tuple(drawn)))
    return Section(name="calibration", title="Calibration", blocks=tuple(blocks))


def _calibration_sentence(card: Scorecard) -> str:
    made = card.calibration_after
    if made.miscalibrated:
        return f"In the {card.name} the calibrated probabilities are off by more than chance (ECE {made.ece.text(3)})."
    return f"In the {card.name} no miscalibration beyond chance is seen (ECE {made.ece.text(3)})."


def _reliability(card: Scorecard) -> draw.Figure:
    def points(made: CalibrationFigures, finding: str) -> list[draw.CalibrationPoint]:
        return [
            draw.CalibrationPoint(
                confidence=b.confidence, frequency=b.frequency.value, low=b.frequency.low, high=b.frequency.high
            )
            for b in made.reliability[finding]
        ]

    panels = [
        (f, {"before": points(card.calibration_before, f), "after": points(card.calibration_after, f)})
        for f in card.findings
    ]
    return draw.reliability_figure(
        panels,
        name=f"reliability-{slug(card.name)}",
        title=f"Reliability, {card.name}",
        caption=(
            "Each point stands for as many films: on the diagonal, the finding is as frequent as the model says. Bars "
            "are Wilson intervals with patients as trials."
        ),
    )


def confounding(cards: Sequence[Scorecard], data: Confounding | None) -> Section:
    """What else the label can be read from."""
    blocks: list[Block] = []
    parts = [*([("the whole data set", data)] if data else []), *((card.name, card.confounding) for card in cards)]
    shown = set()
    for name, found in parts:
        for flag in found.flags:
            if (flag.code, flag.finding, flag.group) not in shown or flag.code == "one-source":
                text = f"{flag.sentence} ({name[0].upper()}{name[1:]}.)" if len(parts) > 1 else flag.sentence
                blocks.append(Notice(tone=flag.severity, text=text))
            shown.add((flag.code, flag.finding, flag.group))
    if not blocks:
        blocks.append(Paragraph("No confounding of the label with source, view, age, sex or device was found."))
    for name, found in parts:
        blocks += _within_source(name, found)
        by_source = [t for t in found.tables if t.group == "source"]
        others = [t for t in found.tables if t.group != "source"]
        blocks += [_cross_block(t, name) for t in by_source]
        if others:
            words = ", ".join(WORDS.get(t.group, t.group) for t in others)
            inner = tuple(_cross_block(t, name) for t in others)
            blocks.append(Details(summary=f"Label by {words} ({name})", blocks=inner))
    return Section(name="confounding", title="What else could explain it", blocks=tuple(blocks))


def _within_source(name: str, found: Confounding) -> list[Block]:
    blocks: list[Block] = []
    if found.within_source:
        rows: list[Row] = [
            [pair.source, f"{pair.first} against {pair.second}", f"{pair.films[0]} + {pair.films[1]}", cell(pair.auroc)]
            for pair in found.within_source
        ]
        heads: Heads = ["source", "pair", Column(title="films", number=True), Column(title="AUROC", number=True)]
        caption = f"Pairs of findings told apart inside one source ({name}): there the source can't help."
        blocks.append(table(caption, heads, rows))
    if found.predictable:
        asked: list[Row] = [
            [WORDS.get(p.group, p.group), p.within or "all", " / ".join(p.levels), cell(p.auroc)]
            for p in found.predictable
        ]
        titles: Heads = ["asked for", "films", "levels", Column(title="AUROC", number=True)]
        caption = (
            f"What a linear model reads from the network's features on patients it hasn't seen ({name}); 0.5 is chance."
        )
        blocks.append(table(caption, titles, asked))
    return blocks


def _cross_block(found: CrossTable, name: str) -> Table:
    what = WORDS.get(found.group, found.group)
    heads: Heads = [Column(title=f, unit="films (patients)", number=True) for f in found.findings]
    totals = [sum(row[c] for row in found.films) for c in range(len(found.findings))]
    rows: list[Row] = []
    for level, films, patients in zip(found.levels, found.films, found.patients, strict=True):
        cells = []
        for c, (n, p) in enumerate(zip(films, patients, strict=True)):
            share = share_cell(n, totals[c]).detail
            alone = n > 0 and n == totals[c] and len(found.levels) > 1
            shown = f"{count(n)} ({count(p)})" if n else "–"
            cells.append(Cell(text=shown, detail=share if n else "", tone="red" if alone else ""))
        rows.append([level, *cells])
    strength = "" if found.cramers_v != found.cramers_v else f" Cramér's V {found.cramers_v:.2f} over patients."
    mark = " Tinted: all films of that finding." if any(c.tone for r in rows for c in r if isinstance(c, Cell)) else ""
    return table(f"Label by {what} ({name}).{strength}{mark}", [what, *heads], rows)


def heat_maps(cards: Sequence[Scorecard], pictures: Sequence[Picture], caption: str) -> Section | None:
    """Whether heat maps point at lesions, and some of them to look at."""
    rows: list[Row] = [
        [
            card.name,
            row.name,
            count(row.hit_rate.n),
            cell(row.hit_rate),
            cell(row.energy),
            Cell(text=number(row.chance), reason=f"{row.empty} empty maps" if row.empty else ""),
        ]
        for card in cards
        for row in card.localisation
    ]
    blocks: list[Block] = []
    if rows:
        heads: Heads = [
            Column(title="films", number=True),
            Column(title="hit rate", unit="hottest point in the lesion", number=True),
            Column(title="energy", unit="share of heat in the lesion", number=True),
            Column(title="chance", unit="lesion's share of the film", number=True),
        ]
        text = "Grad-CAM of the true finding against the lesion mask. A map that is zero everywhere counts as a miss."
        blocks.append(table(text, ["test", "finding", *heads], rows))
    if pictures:
        blocks.append(Gallery(caption=caption, items=tuple(pictures)))
    return Section(name="heat-maps", title="Heat maps", blocks=tuple(blocks)) if blocks else None


def training(history: Sequence[Mapping[str, Any]]) -> Section | None:
    """Loss and accuracy over epochs: the mean over members, stage after stage."""
    if not history:
        return None
    stages = list(dict.fromkeys(str(row.get("stage", "")) for row in history))
    steps = sorted({(stages.index(str(row.get("stage", ""))), int(row["epoch"])) for row in history})
    place = {step: i + 1 for i, step in enumerate(steps)}

    def curve(key: str, label: str) -> draw.Curve:
        values: dict[int, list[float]] = {}
        for row in history:
            if row.get(key) is not None:
                at = place[stages.index(str(row.get("stage", ""))), int(row["epoch"])]
                values.setdefault(at, []).append(float(row[key]))
        x = sorted(values)
        return draw.Curve(label=label, x=x, y=[sum(values[i]) / len(values[i]) for i in x])

    panels = []
    for quantity in ("loss", "accuracy"):
        curves = [curve(quantity, "fitted films"), curve(f"watch_{quantity}", "watched films")]
        if any(c.x for c in curves):
            panels.append((quantity, [c for c in curves if c.x]))
    starts = [(min(place[s] for s in steps if s[0] == i) - 0.5, stage) for i, stage in enumerate(stages) if stage]
    members = len({row.get("member", 0) for row in history})
    caption = "Watched films decide when a stage stops and which weights are kept."
    if members > 1:
        caption += f" Mean over {members} members; late epochs are those of the members that went on."
    figure = draw.lines_figure(
        panels, name="training", title="Training", caption=caption, xlabel="epoch", markers=starts
    )
    return Section(name="training", title="Training", blocks=(Figures((figure,)),))


def comparison(rows: Sequence[tuple[str, str, Estimate, Estimate, float | None]]) -> Section | None:
    """Ways of training side by side, on the same films."""
    if not rows:
        return None
    drawn = draw.forest_figure(
        [
            draw.Interval(
                label=f"{name}, {test}",
                value=auroc.value,
                low=auroc.low,
                high=auroc.high,
                series=name,
                note=auroc.text(),
            )
            for name, test, auroc, _, _ in rows
        ],
        name="comparison",
        title="Mean AUROC over findings",
        xlabel="AUROC",
        reference=0.5,
        reference_label="chance",
    )
    cells: list[Row] = [
        [name, test, cell(auroc), cell(right), "–" if seconds is None else f"{seconds:.0f}"]
        for name, test, auroc, right, seconds in rows
    ]
    heads: Heads = [
        Column(title="mean AUROC", number=True),
        Column(title="accuracy", number=True),
        Column(title="training", unit="s", number=True),
    ]
    block = table("Same films, same recipe, another start.", ["start", "test", *heads], cells)
    return Section(name="comparison", title="Where the weights start", blocks=(block, Figures((drawn,))))


def provenance(cards: Sequence[Scorecard], facts: Mapping[str, Any], command: str) -> Section:
    """Where every number comes from, and how it was made."""
    settings = cards[0].settings
    made = settings.resampling
    bounds = "quantiles" if made.method == "percentile" else "quantiles, corrected for bias and skewness (BCa)"
    method = (
        f"Intervals: {percent(made.level)} bootstrap by patient, stratified by the patient's class, {bounds}, "
        f"{made.resamples:,} resamples, seed {made.seed}. Proportions of 0 and 1, and those on fewer than 20 "
        "patients, take Wilson's interval with patients as trials. A ranking needs 5 patients on each side. ECE has "
        f"{settings.ece_bins} bins and a reflected bootstrap interval."
    )
    flat = flatten(facts)
    blocks: list[Block] = [Paragraph(method)]
    if command:
        blocks.append(Facts((("command", command),)))
    if flat:
        blocks.append(Facts(tuple(flat)))
    return Section(name="provenance", title="Method and provenance", blocks=tuple(blocks))


def flatten(facts: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Nested facts as pairs of texts: ``{"packages": {"numpy": "2.0"}}`` gives ``("packages: numpy", "2.0")``."""
    flat = []
    for name, value in facts.items():
        label = f"{prefix}{str(name).replace('_', ' ')}"
        if isinstance(value, Mapping):
            flat += flatten(value, f"{label}: ")
        elif isinstance(value, list | tuple):
            flat.append((label, ", ".join(str(item) for item in value) or "–"))
        else:
            flat.append((label, "–" if value is None else str(value)))
    return flat
