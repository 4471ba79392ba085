"""What belongs below a report's calibration table: class by class, ways compared, and a local correction."""

from collections.abc import Sequence

from hilum.evaluation.calibrators import METHODS, Choice, Method
from hilum.evaluation.report_sections import Heads, Row, cell
from hilum.evaluation.scorecard import CalibrationFigures, Scorecard
from hilum.evaluation.shipped_calibration import ShippedCalibration
from hilum.reports.page import Block, Details, Notice, Paragraph
from hilum.reports.tables import NONE, Cell, Column, Table, number, table

METHOD_WORDS: dict[Method, str] = {
    "none": "as they are",
    "temperature": "temperature",
    "vector": "vector scaling (a weight and a bias for each finding)",
    "platt": "Platt's sigmoids, one against the rest",
    "isotonic": "isotonic regression, one against the rest",
}


def calibration_parts(
    cards: Sequence[Scorecard], choice: Choice | None, shipped: ShippedCalibration | None = None
) -> tuple[Block, ...]:
    """What belongs below the calibration table: class by class, the choice among methods, and a local correction."""
    blocks: list[Block] = []
    if any(card.calibration_after.lines for card in cards):
        blocks.append(_by_finding(cards))
    if choice is not None:
        blocks.append(_choice(choice, shipped))
    for card in cards:
        if card.recalibrated is not None:
            blocks += _local(card)
    return tuple(blocks)


def _by_finding(cards: Sequence[Scorecard]) -> Table:
    rows: list[Row] = []
    for card in cards:
        made = card.calibration_after
        for i, finding in enumerate(card.findings):
            line, parts = made.lines.get(finding), made.brier_parts.get(finding)
            rows.append(
                [
                    card.name if i == 0 else "",
                    finding,
                    cell(line.slope) if line else NONE,
                    cell(line.intercept) if line else NONE,
                    *(
                        number(value, 4)
                        for value in ((parts.score, parts.reliability, parts.resolution) if parts else ())
                    ),
                    *([NONE] * (0 if parts else 3)),
                    cell(made.classwise_ece, 3) if i == 0 else "",
                ]
            )
    heads: Heads = [
        Column(title="slope", unit="1 is right", number=True),
        Column(title="intercept", unit="log-odds, 0 is right", number=True),
        Column(title="Brier score", unit="of the finding", number=True),
        Column(title="reliability", unit="lower is better", number=True),
        Column(title="resolution", unit="higher is better", number=True),
        Column(title="classwise ECE", unit="equal mass", number=True),
    ]
    caption = (
        "After calibration, each finding against the rest. A slope below 1 says that probabilities are too extreme; an "
        "intercept above 0 that the finding is commoner than they say. Intervals: sandwich by patient. Reliability and "
        "resolution are Murphy's parts of the Brier score in ten bins."
    )
    return table(caption, ["test", "finding", *heads], rows)


def _choice(choice: Choice, shipped: ShippedCalibration | None) -> Block:
    if not choice.folds:
        return Paragraph(f"No way of calibrating was compared. {choice.reason}")
    rows: list[Row] = [
        [
            Cell(text=METHOD_WORDS[method], tone="note" if method == choice.method else ""),
            number(choice.nll[method], 4),
            "–" if choice.behind[method] == 0 else number(choice.behind[method], 4),
            "–" if choice.error[method] == 0 else number(choice.error[method], 4),
            "chosen" if method == choice.method else "",
        ]
        for method in METHODS
        if method in choice.nll
    ]
    heads: Heads = [
        Column(title="NLL", unit="nats, other patients", number=True),
        Column(title="behind the best", unit="nats", number=True),
        Column(title="standard error", unit="over patients", number=True),
        "",
    ]
    caption = (
        f"Ways of calibrating, compared on out-of-fold predictions in {choice.folds} folds by patient. The simplest "
        "within a standard error of the best is chosen: more freedom must earn its place."
    )
    compared = table(caption, ["way", *heads], rows)
    said = (Paragraph(shipped_sentence(choice, shipped.method)),) if shipped else ()
    return Details(summary="How the calibration compares with others", blocks=(*said, compared))


def shipped_sentence(choice: Choice, shipped: Method) -> str:
    """Which way the run and its bundle take, beside the chosen one, and what that costs."""
    if choice.method == shipped:
        return f"Chosen and shipped: {METHOD_WORDS[shipped]}."
    more = choice.nll[shipped] - choice.nll[choice.method]
    return (
        f"Chosen: {METHOD_WORDS[choice.method]}. Shipped: {METHOD_WORDS[shipped]}, chosen among the ways that the "
        f"exported graph carries, which a step function is not; {more:+.4f} nats on other patients."
    )


def _local(card: Scorecard) -> list[Block]:
    made = card.recalibrated
    if made is None:
        return []
    done = made.done
    blocks: list[Block] = [Notice(tone="amber", text=text) for text in done.warnings]
    if made.figures is None:
        return blocks
    rows: list[Row] = [
        [name, *(cell(getattr(one, figure), 3) for figure in ("nll", "brier", "ece", "classwise_ece")), *_slopes(one)]
        for name, one in (("as the model answers", card.calibration_after), ("after a local correction", made.figures))
    ]
    heads: Heads = [
        Column(title="NLL", unit="nats", number=True),
        Column(title="Brier score", unit="0 … 2", number=True),
        Column(title="ECE", unit="equal width", number=True),
        Column(title="classwise ECE", unit="equal mass", number=True),
        *(Column(title=f"slope, {finding}", number=True) for finding in card.findings),
    ]
    caption = (
        f"What a correction ({METHOD_WORDS[done.method]}) on films of the {card.name} would give: each film is "
        f"corrected by what other patients' films teach ({done.folds} folds). Ranking, and so AUROC, hardly changes."
    )
    return [*blocks, table(caption, [card.name, *heads], rows)]


def _slopes(made: CalibrationFigures) -> list[Cell]:
    return [cell(line.slope) for line in made.lines.values()]
