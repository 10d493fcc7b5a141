"""Batching modes at equal cost: after the same number of epochs, of updates and of seconds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd

from fnnexp.reporting import at_equal
from fnnexp.reporting.at_equal import UNITS
from fnnexp.reporting.document.blocks import Cell, Section, Table, Text
from fnnexp.reporting.document.wording import between, number, plain, points
from fnnexp.results import comparisons
from fnnexp.results.factors import groups
from fnnexp.results.ranking import ranking_of

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable

    from fnnexp.reporting.document.blocks import Block
    from fnnexp.results.ranking import Ranking

NOTE = (
    "In each combination of the other factors, all modes get the same budget: the cost of the mode that was"
    " trained least. Each mode is taken at its last epoch within the budget. Epochs and cost are listed for"
    " the better mode, then for the other. Updates are optimizer steps. Seconds are the time of one trial in"
    " its stack (the trials that train together), including validation and test, measured while the sweep ran"
    " beside other work; all trials of a stack share it. Holm p is corrected for the pairs at equal epochs,"
    " updates or seconds separately."
)

FORMATS = {"epochs": ",.0f", "updates": ",.0f", "seconds": ".3g"}

HEAD = (
    "at equal", "better", "than", "95% interval", "ahead in", "Holm p", "epochs", "cost", "verdict",
)  # fmt: skip

TITLE = "Batching modes at equal cost"


def section(runs: pd.DataFrame, curves: pd.DataFrame, ranking: Ranking | None = None) -> Section:
    """Return the section that compares batching modes after equal epochs, updates or seconds.

    It is empty if batching does not vary, or if the ranking metric is the time to reach an accuracy.
    """
    ranking = ranking or ranking_of(runs)
    if not at_equal.batching_varies(runs) or ranking.is_time:
        return Section(TITLE, [])
    cuts = {unit: at_equal.cut_at_equal_cost(runs, curves, unit) for unit in UNITS}
    pairs = {unit: _pairs(cut.runs, ranking) for unit, cut in cuts.items()}
    rows = [row for unit in UNITS for row in _rows(unit, cuts[unit].runs, pairs[unit], ranking)]
    sentences = [
        _an_epoch(cuts["updates"].costs),
        *(_verdicts(unit, table, ranking) for unit, table in pairs.items() if len(table)),
        *(text for unit, cut in cuts.items() for text in at_equal.omitted_modes(cut.costs, unit)),
    ]
    blocks: list[Block] = [Text(sentence) for sentence in sentences if sentence]
    if rows:
        blocks += [
            Text(NOTE, quiet=True),
            Table("", [*HEAD[:3], ranking.unit or "ahead by", *HEAD[3:]], rows, 3),
        ]
    data = {
        "equal_cost": _stacked(pairs),
        "budgets": _stacked({unit: cut.costs for unit, cut in cuts.items()}),
    }
    return Section(TITLE, blocks, data)


def _stacked(frames: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """Return the frames of all units as one frame, with the unit as the first column."""
    return pd.concat(frames, names=["at_equal"]).reset_index("at_equal")


def _pairs(cut: pd.DataFrame, ranking: Ranking) -> pd.DataFrame:
    """Return the comparisons of batching modes, paired by seed and by the combination of other factors."""
    pairs = comparisons.of_options(cut, ranking)
    pairs = pairs[(pairs["factor"] == "batching") & (pairs["seeds"] > 0)]
    return pairs.drop(columns="factor").reset_index(drop=True)


def _an_epoch(costs: pd.DataFrame) -> str:
    """Return a sentence with the number of updates per epoch of each batching mode, if they are known.

    `costs` has the cost of an epoch in updates.
    """
    known = costs.dropna(subset="cost").groupby("batching", observed=True)["cost"]
    parts = [f"{_range(cost)} with {option}" for option, cost in known]
    return f"Updates per epoch: {', '.join(parts)}." if parts else ""


def _verdicts(unit: str, pairs: pd.DataFrame, ranking: Ranking) -> str:
    """Return which mode leads at equal cost, and how the leader compares with the other modes."""
    leading = set(pairs["a"]).difference(pairs["b"])
    with_leader = pairs[pairs["a"].isin(leading)]
    if len(leading) != 1 or (with_leader["difference"] == 0).any():
        return f"At equal {unit}, no batching mode is ahead of all others."
    phrases = {
        "better": "it is better than",
        "equivalent": "it is equivalent to",
        "open": "it cannot be told apart from",
    }
    texts = [
        f"{phrase} {', '.join(_other(pair, ranking) for pair in part.to_dict('records'))}"
        for verdict, phrase in phrases.items()
        if len(part := with_leader[with_leader["verdict"] == verdict])
    ]
    return f"At equal {unit}, {leading.pop()} leads: {'; '.join(texts)}."


def _other(pair: dict[Hashable, Any], ranking: Ranking) -> str:
    """Return the name of the other mode of a pair, with its distance from the leader."""
    interval = (
        f"95% interval {between(pair['low'], pair['high'], ranking)}" if pair["seeds"] > 1 else "in one seed"
    )
    return f"{pair['b']} (by {points(pair['difference'], ranking)}, {interval})"


def _rows(unit: str, cut: pd.DataFrame, pairs: pd.DataFrame, ranking: Ranking) -> Iterable[list[Cell]]:
    """Yield a table row per pair, with the epochs and the cost of both batching modes."""
    done = comparisons.levels(cut)[cut["status"] == "finished"].join(cut[["epoch", "spent"]])
    names = [name for name in done.columns if name not in ("batching", "epoch", "spent")]
    cells = [cell for _, cell in groups(done, names)]
    for pair in pairs.to_dict("records"):
        modes = [pair["a"], pair["b"]]
        shared = pd.concat([cell for cell in cells if set(modes) <= set(cell["batching"])])
        by_mode = [shared[shared["batching"] == mode] for mode in modes]
        yield [
            *(Cell(text) for text in (unit, *modes)),
            Cell(plain(pair["difference"], ranking), pair["difference"]),
            Cell(between(pair["low"], pair["high"], ranking)),
            Cell(f"{pair['ahead']} of {pair['seeds']}", float(pair["ahead"])),
            Cell(number(pair["p_corrected"], ".3g"), pair["p_corrected"]),
            Cell(" and ".join(_range(trials["epoch"]) for trials in by_mode)),
            Cell(" and ".join(_range(trials["spent"], FORMATS[unit]) for trials in by_mode)),
            Cell(pair["verdict"]),
        ]


def _range(values: pd.Series, format_spec: str = ",.0f") -> str:
    """Return the minimum and maximum of some numbers, or the number if all are equal.

    >>> _range(pd.Series([1234, 1234])), _range(pd.Series([0.25, 0.5]), ".3g")
    ('1,234', '0.25–0.5')
    """
    return "–".join(dict.fromkeys(f"{end:{format_spec}}" for end in (values.min(), values.max())))
