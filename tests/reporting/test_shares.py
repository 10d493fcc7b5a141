"""Shares of variance within each batching mode, for frames with known effects."""

from itertools import product

import pandas as pd
import pytest

import fnnexp
from fnnexp.reporting.sections.by_factor import shares
from fnnexp.results import comparisons, frames
from fnnexp.tracking.run_format import METRICS

EFFECTS = {"full": {"he": 0.1, "tanh_128": 0.02}, "mini": {"he": 0.02, "tanh_128": 0.06}}
"""What an option adds to the accuracy in a batching mode; its variance is the square of half of it."""


def grid(seeds=2):
    """Return the frame of a full grid without noise."""
    rows = []
    for arch, init, mode, seed in product(("relu_100", "tanh_128"), ("max", "he"), EFFECTS, range(seeds)):
        added = sum(EFFECTS[mode].get(option, 0) for option in (arch, init))
        rows.append({
            "trial": f"{arch}-{init}-{mode}-{seed}", "name": f"{arch}-{init}-{mode}-s{seed}",
            "status": "finished", "arch": arch, "init": init, "batching": mode, "seed": seed,
            "identical_to": None, "seconds_per_epoch": 1.0, **dict.fromkeys(METRICS, 0.5),
            "val_accuracy": {"full": 0.3, "mini": 0.8}[mode] + added,
        })  # fmt: skip
    axes = ["arch", "init", "batching"]
    return frames.in_order(pd.DataFrame(rows).astype(dict.fromkeys(axes, "category")))


def section_of(runs):
    return shares.section(runs, comparisons.findings(runs))


def test_the_shares_within_a_batching_mode_depend_on_its_trials_alone():
    runs = grid()
    data = section_of(runs).data["shares_within_batching"]
    by_mode = data.set_index(["batching", "effect"])["share"]
    for mode, effects in EFFECTS.items():
        whole = sum(effect**2 for effect in effects.values())
        assert by_mode[mode, "init"] == pytest.approx(effects["he"] ** 2 / whole)
        assert by_mode[mode, "arch"] == pytest.approx(effects["tanh_128"] ** 2 / whole)
        assert by_mode[mode].sum() == pytest.approx(1)
        alone = fnnexp.shares(runs[runs["batching"] == mode])
        assert by_mode[mode].to_dict() == dict(zip(alone["effect"], alone["share"], strict=True))
    # Over all trials, batching hides which of the two factors matters.
    assert section_of(runs).data["shares"]["effect"].iloc[0] == "batching"


def test_the_shares_by_mode_are_shown_below_those_of_all_trials():
    runs = grid()
    section = section_of(runs)
    whole, within = (block for block in section.blocks if hasattr(block, "rows"))
    assert whole.rows[0][0].text == "batching"
    assert within.title == "Within each batching mode"
    first = {row[0].text: [cell.text for cell in row[1:]] for row in reversed(within.rows)}
    assert first == {"full": ["init", "96.2"], "mini": ["arch", "90.0"]}
    assert section.sentences == ["Over 2 seeds that finished everywhere."]
    # If the shares of a mode cannot be computed, a sentence says why.
    missing = (runs["batching"] == "mini") & (runs["arch"] == "relu_100") & (runs["init"] == "he")
    section = section_of(runs[~missing].reset_index(drop=True))
    assert section.sentences[-1].startswith("Within mini: The grid is not full: 1 of 4 combinations has no")
    assert set(section.data["shares_within_batching"]["batching"]) == {"full"}


@pytest.mark.parametrize("part", ["batching == 'mini'", "init == 'he' and arch == 'tanh_128'", "seed < 0"])
def test_there_are_no_shares_by_mode_unless_batching_and_another_factor_vary(part):
    runs = grid().query(part).reset_index(drop=True)
    assert shares.within_batching(runs) == ({}, {})
    assert list(section_of(runs).data) == ["shares"]
