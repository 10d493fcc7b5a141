"""The learning rate over the epochs, if a schedule changes it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from fnnexp.nn.pieces.schedules import SCHEDULES, Schedule
from fnnexp.reporting.document.blocks import PAGE, Section, Text
from fnnexp.reporting.plots import picture
from fnnexp.reporting.plots.curves import learning_rates
from fnnexp.results.factors import as_text

if TYPE_CHECKING:
    import pandas as pd

    from fnnexp.reporting.document.blocks import Block

MOST_LINES = 16

KEYS = ("schedule", "optimizer.lr", "epochs")

CAPTION = (
    "The learning rate of the trials by epoch. One line stands for all trials with the same schedule, initial"
    " rate and number of epochs."
)


def sections(runs: pd.DataFrame) -> list[Section]:
    """Return the section with the figure of learning rates by epoch, or [] if all rates are constant."""
    lines = learning_rates_of(runs)
    if all(schedule == Schedule("constant") for _, schedule, _ in lines.values()):
        return []
    drawn = dict(list(lines.items())[:MOST_LINES])
    blocks: list[Block] = [picture.block(learning_rates(drawn), "learning_rate", CAPTION, media=PAGE)]
    if len(lines) > len(drawn):
        blocks.append(Text(f"The first {MOST_LINES} of {len(lines)} learning rates are shown.", PAGE))
    return [Section("Learning rate", blocks)]


def learning_rates_of(runs: pd.DataFrame) -> dict[str, tuple[float, Schedule, int]]:
    """Return the different courses of the learning rate: initial rate, schedule and epochs, by a label.

    Trials without training are left out, and so are schedules that this version does not know.
    """
    distinct: dict[tuple[float, Schedule, int], None] = {}
    keys = [*KEYS, *(str(key) for key in runs if str(key).startswith("schedule."))]
    for row in runs[runs.columns.intersection(keys)].drop_duplicates().to_dict("records"):
        name = _value(row, "schedule.name", _value(row, "schedule", "constant"))
        lr, epochs = _value(row, "optimizer.lr", None), _value(row, "epochs", 0)
        if name not in SCHEDULES or lr is None or not epochs:
            continue
        names = SCHEDULES[name].parameters
        parameters = {key: _value(row, f"schedule.{key}", None) for key in names}
        if None in parameters.values():
            continue
        pairs = tuple((key, float(value)) for key, value in parameters.items())
        warmup = float(_value(row, "schedule.warmup", 0.0))
        distinct[float(lr), Schedule(name, pairs, warmup), int(epochs)] = None
    rates, lengths = {lr for lr, _, _ in distinct}, {epochs for _, _, epochs in distinct}
    return {_label(*line, rates=len(rates), lengths=len(lengths)): line for line in distinct}


def _value(row: dict[Any, Any], key: str, default: Any) -> Any:
    value = row.get(key)
    return default if value is None or (isinstance(value, float) and math.isnan(value)) else value


def _label(lr: float, schedule: Schedule, epochs: int, *, rates: int, lengths: int) -> str:
    """Return the label of a line: the schedule with its parameters, and what else differs between lines."""
    numbers = dict(schedule.parameters) | ({"warmup": schedule.warmup} if schedule.warmup else {})
    numbers |= {"lr": lr} if rates > 1 else {}
    numbers |= {"epochs": epochs} if lengths > 1 else {}
    return " ".join([schedule.name, *(f"{key}={as_text(value)}" for key, value in numbers.items())])
