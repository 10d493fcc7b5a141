"""Range tests: trials are ordinary ones whose rate rises, and the rule finds the rate of the least loss."""

from __future__ import annotations

import ast
import re
import shlex
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.lines import Line2D

import fnnexp
from fnnexp.config.commands import Command
from fnnexp.config.compose import compose
from fnnexp.mapping.lr.request import EPOCHS, configurations, parse
from fnnexp.mapping.lr.results import RangeTest, around
from fnnexp.mapping.lr.rule import PART, read
from fnnexp.nn.pieces.schedules import factors

WORDS = (
    "data=digits",
    "arch.hidden=[4]",
    "init=he,max",
    "execution.n_jobs=1",
    "data.subset=300",
    "batching.size=64",
)


def trained(ran):
    assert ran.status == 0, ran.err
    total, before = re.search(r": (\d+) trials? with .* (\d+) finished before", ran.out).groups()
    return int(total) - int(before)


def risen(*words, grid="config", folder=None):
    """Return the factors and the configurations of a command."""
    data = () if any(word.startswith("data=") for word in words) else ("data=digits",)
    request = parse(Command(grid, (*data, *words), folder))
    return configurations(request, compose(request.command))


def written(folder, params, *lines):
    """Write a grid's file with these `hydra.sweeper.params`."""
    text = ["defaults: [config, _self_]", *lines, f"hydra: {{mode: MULTIRUN, sweeper: {{params: {params}}}}}"]
    (folder / "own.yaml").write_text("\n".join(text))
    return {"grid": "own", "folder": folder}


# --- the rule -----------------------------------------------------------------------------------------------

RATES = np.geomspace(1e-4, 10, 61)


def test_the_suggestion_is_the_rate_of_the_least_loss():
    """The logarithm of the loss is a parabola of that of the rate, with its least value at 0.1."""
    reading = read(RATES, np.exp(np.log(RATES / 0.1) ** 2 / 20))
    assert reading.suggested == pytest.approx(PART * 0.1, rel=1e-9)
    assert reading.steepest <= RATES[2]  # where the parabola is steepest
    twice = 0.1 * np.exp(np.sqrt(20 * np.log(2)))
    assert twice < reading.diverges < twice * (RATES[1] / RATES[0]) ** 2


def test_the_suggestion_lies_between_the_least_training_and_validation_loss():
    train, val = (np.exp(np.log(RATES / least) ** 2 / 20) for least in (0.1, 0.01))
    reading = read(RATES, train, val)
    assert reading.suggested == pytest.approx(PART * np.sqrt(0.1 * 0.01), rel=1e-9)
    assert reading[1:] == read(RATES, train)[1:]
    assert read(RATES, train, np.full(61, np.nan)) == read(RATES, train)  # without validation rows


def test_the_steepest_fall_is_that_of_a_sigmoid():
    losses = 2.3 - 2 / (1 + (0.01 / RATES) ** 2)
    assert read(RATES, losses).steepest == pytest.approx(0.01, rel=0.25)


def test_a_recovery_is_not_the_steepest_fall():
    losses = 2.3 - 2 / (1 + (0.01 / RATES) ** 2)
    spiked = np.where(np.arange(61) == 50, 50.0, losses)
    assert read(RATES, spiked).steepest == read(RATES, losses).steepest


@pytest.mark.parametrize("worst", [np.nan, np.inf])
def test_losses_that_are_not_finite_are_of_divergence(worst):
    losses = np.where(RATES < 1, 1 - RATES / 2, worst)
    reading = read(RATES, losses)
    assert reading.diverges == RATES[RATES >= 1][0]
    assert 0.5 < reading.suggested / PART < 1


@pytest.mark.parametrize(
    "losses",
    [np.linspace(1, 2, 61), np.full(61, np.nan), np.r_[1.0, np.full(60, np.nan)], 2.3 - RATES / 1000],
)
def test_there_is_no_suggestion_where_the_loss_never_falls(losses):
    assert np.isnan(read(RATES, losses).suggested)


def test_the_suggestion_is_at_most_the_rate_at_which_all_is_learned():
    """The loss falls to 0 at the highest rate, and is below 5% of its first value from 0.07 on."""
    losses = np.exp(-np.sqrt(RATES / 0.0078))
    suggested = read(RATES, losses).suggested
    first = RATES[losses < 0.05 * losses[0]][0]
    assert first / 1.3 < suggested < first * 1.3
    assert 0.04 < read(RATES, np.where(RATES > 0.05, 0.0, 1.0)).suggested < 0.07


def test_the_sweep_has_the_suggestions_and_a_third_and_three_times_each():
    assert around([0.5]) == [0.2, 0.5, 2]
    assert around([0.03, 0.1]) == [0.01, 0.03, 0.1, 0.3]
    assert around([0.1003, 0.1402]) == [0.03, 0.1, 0.14, 0.4]
    assert around([0.71, 0.45, 0.28, 0.45]) == [0.09, 0.28, 0.45, 0.71, 2]


# --- the trials ---------------------------------------------------------------------------------------------


def test_the_rate_of_a_trial_rises_from_one_end_to_the_other():
    _, (one,) = risen("range=0.001..10")
    (trial,) = one.trials
    steps = 1 + np.arange(EPOCHS * 10)
    rates = dict(trial.hyper)["lr"] * factors(trial.schedule, 0, len(steps), len(steps), 10)
    assert rates[0] == 0.001
    np.testing.assert_allclose(np.diff(np.log(rates)), np.log(1e4) / len(steps), rtol=1e-9)
    np.testing.assert_allclose(one.ends, (0.001, 10), rtol=1e-12)


@pytest.mark.parametrize(
    ("words", "low"),
    [
        ((), 0.1e-3),
        (("optimizer=adam",), 1e-3 * 1e-3),
        (("batching=full",), 0.2e-3),
        (("loss.reduction=sum",), 0.1e-3 / 128),
        (("experiment=nielsen_30", "data.validation=200"), 3e-3),
    ],
)
def test_the_rates_lie_around_that_of_the_optimizer(words, low):
    _, (one,) = risen(*words)
    np.testing.assert_allclose(one.ends, (low, low * 1e5), rtol=1e-9)


@pytest.mark.parametrize(
    ("words", "rows", "epochs"),
    [
        ((), None, 50),  # 1,200 rows are fewer than 20 batches
        (("batching.size=16",), 20 * 16, 50),
        (("batching=full",), None, 200),
        (("batching=sample",), 200, 50),
        (("data=moons", "batching.size=500"), None, 100),
    ],
)
def test_epochs_are_short_and_have_steps_enough(words, rows, epochs):
    _, (one,) = risen(*words)
    recipe = one.trials[0].recipe
    assert (recipe.subset, recipe.epochs) == (rows, epochs)


def test_configurations_are_told_apart_by_what_varies():
    factors_, configurations = risen("init=he,max", "arch.hidden=[4],[5]", "seed=0,1", "epochs=2,3")
    assert factors_ == ["arch", "init"]
    assert {len(each.trials) for each in configurations} == {2}  # the seeds
    assert [each.options for each in configurations] == [
        ("relu_4", "he"), ("relu_5", "he"), ("relu_4", "max"), ("relu_5", "max")
    ]  # fmt: skip
    factors_, configurations = risen("init=he,max", "init.gain=1,2", "zip=[[init,init.gain]]")
    assert factors_ == ["init"]
    factors_, configurations = risen("init=he,max", "init.gain=1,2")
    assert factors_ == ["init", "init.gain"]
    assert [each.options for each in configurations] == [
        ("he", "1.0"),
        ("he", "2.0"),
        ("max", "1.0"),
        ("max", "2.0"),
    ]


def test_values_that_change_no_trial_make_no_configuration():
    """Every trial of the test has the same 20 batches of 8 rows, and no early stopping."""
    words = ("batching.size=8", "stopping.patience=1,2", "stopping.min_delta=0,0.1", "data.subset=500,600")
    factors_, (one,) = risen(*words)
    assert (factors_, one.options, len(one.trials)) == (["arch"], ("relu_100",), 1)
    factors_, configurations = risen("init=he,max", "stopping.patience=1,2", "zip=[[init,stopping.patience]]")
    assert (factors_, [each.options for each in configurations]) == (["init"], [("he",), ("max",)])


@pytest.mark.parametrize("key", ["optimizer.lr", "optimizer.lr_for.mini"])
def test_a_grid_that_sweeps_over_the_rate_needs_a_range(key, tmp_path):
    own = written(tmp_path, f"{{init: 'he,max', {key}: '0.001,0.1,10'}}")
    with pytest.raises(
        fnnexp.FnnexpError, match=rf"^{key} has several values, .* write .*range=0\.001\.\.10$"
    ):
        risen("batching=mini", **own)
    factors_, configurations = risen("batching=mini", "range=0.01..1", **own)
    assert (factors_, [len(each.trials) for each in configurations]) == (["init"], [1, 1])


def test_a_grid_that_sweeps_over_the_rate_with_other_keys_is_refused(tmp_path):
    """The sweep that follows could not be zipped: it has other rates than options."""
    params = "{init: 'he,max', optimizer.lr: '0.1,0.3', arch: 'relu_98,tanh_128', epochs: '2,3'}"
    own = written(tmp_path, params, "zip: [[init, optimizer.lr], [arch, epochs]]")
    with pytest.raises(
        fnnexp.FnnexpError, match=r"^zip=\[\[init,optimizer.lr\]\]: .* write zip=\[\[arch,epochs"
    ):
        risen("range=0.01..1", **own)
    factors_, configurations = risen("zip=[[arch,epochs]]", "range=0.01..1", **own)
    assert (factors_, len(configurations)) == (["arch", "init"], 4)


def test_trials_with_ranges_that_differ_are_not_pooled(tmp_path):
    own = written(tmp_path, "{seed: 'range(3)'}", "optimizer: {lr: '0.${seed}1'}")
    with pytest.raises(fnnexp.FnnexpError, match=r"1e-05\.\.1 and 0\.00021\.\.21; write one range for all"):
        risen(**own)
    _, (one,) = risen("range=0.01..1", **own)
    assert len(one.trials) == 3


def test_rates_beyond_float32_are_refused(tmp_path):
    own = written(tmp_path, "{}", "optimizer: {lr: 1e300}")
    with pytest.raises(
        fnnexp.FnnexpError, match=r"optimizer\.lr=1e\+300: .* 1e-30 to 1e\+30; .*range=0\.001"
    ):
        risen(**own)
    assert risen("range=1e-30..1e30", **own)


# --- the command --------------------------------------------------------------------------------------------


def test_each_configuration_is_trained_once_and_kept(invoke, store, own_folder):
    first = invoke("lr", *WORDS, "seed=0,1")
    assert trained(first) == 4
    assert re.search(r"^init +suggested +loss falls fastest at +diverges at$", first.out, re.MULTILINE)
    (written,) = own_folder.glob("mlruns/*/*/artifacts/lr.csv")
    before = written.stat().st_mtime_ns
    again = invoke("lr", *WORDS, "seed=0,1")
    assert trained(again) == 0
    assert written.stat().st_mtime_ns == before
    written.unlink()
    assert trained(invoke("lr", *WORDS, "seed=0,1")) == 0
    assert written.exists()  # a file that is missing is written again
    table = r"^(init .*|he .*|max .*)$"
    assert re.findall(table, again.out, re.MULTILINE) == re.findall(table, first.out, re.MULTILINE)
    assert trained(invoke("lr", "-m", *WORDS, "seed=0,1,2")) == 2
    (folder, _) = sorted(own_folder.glob("mlruns/*/*/artifacts"), key=lambda each: each.stat().st_mtime)
    picture = Path("reports", "digits_lr", "lr.png")
    assert f"picture: {picture}" in first.out
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert [file.name for file in picture.parent.iterdir()] == ["lr.png"]
    assert (folder / "lr.png").read_bytes().startswith(b"\x89PNG")
    assert list(pd.read_csv(folder / "lr.csv")["init"]) == ["he", "max"]
    assert len(pd.read_csv(folder / "lr_curves.csv")) == 2 * EPOCHS
    assert len(list((own_folder / "mlruns").iterdir())) == 1
    with pytest.raises(fnnexp.FnnexpError, match="has no map"):
        fnnexp.read_map("digits_lr")
    with pytest.raises(fnnexp.FnnexpError, match="only range tests of learning rates, which have no report"):
        fnnexp.report("digits_lr")


@pytest.mark.parametrize("inits", [(), ("he", "max"), ("he", "max", "xavier", "normal")])
def test_the_legend_shows_lines_and_dots_as_they_are_drawn(inits):
    rates, losses = np.geomspace(0.01, 10, 9), np.array([9.0, 8, 6, 4, 2, 1, 2, 9, 10])
    options = tuple((init,) for init in inits) or ((),)
    all_rates, train = ((each,) * len(options) for each in (rates, losses))
    figure = fnnexp.plot_lr(
        RangeTest(("init",) if inits else (), options, all_rates, train, tuple(losses + 1 for _ in options))
    )

    def look(line):
        marker = line.get_marker()
        stroke = line.get_linestyle() if marker == "None" else line.get_markersize()
        return line.get_color(), marker, stroke, line.get_linewidth()

    drawn = {look(line) for line in figure.axes[0].lines}
    (legend,) = figure.legends
    shown = {look(line) for line in legend.findobj(Line2D)}
    assert shown - {(color, "None", "None", width) for color, _, _, width in shown} <= drawn
    assert len(shown & drawn) == len(options) + 2 * min(len(options), 3)
    texts = [text.get_text() for text in legend.get_texts()]
    assert texts == [*(inits or ["training"]), "validation", "suggested"]


def test_its_losses_are_those_of_an_ordinary_trial(invoke, store):
    test = fnnexp.lr_range(*WORDS, range="0.01..100")
    *rates, seeds = ast.literal_eval(test.command.removeprefix("fnnexp.sweep"))[len(WORDS) :]
    assert re.fullmatch(r"optimizer\.lr=[\d.,]+", *rates)
    assert seeds == "seed=range(5)"
    curve = test.curves().query("init == 'max'")
    low, gamma = 0.01, 1e4 ** (1 / EPOCHS)
    words = [word.replace("init=he,max", "init=max") for word in WORDS]
    words += [f"optimizer.lr={low}", "schedule=exponential", f"schedule.gamma={gamma!r}", f"epochs={EPOCHS}"]
    ran = invoke(*words, "tracking.experiment=alone")
    assert ran.status == 0, ran.err
    alone = fnnexp.curves("alone", metrics="train_loss").sort_values("epoch")["value"]
    np.testing.assert_array_equal(curve["train_loss"].dropna(), alone[: curve["train_loss"].count()])


def test_the_printed_sweep_contains_the_suggestions(invoke, store, monkeypatch):
    monkeypatch.setattr("fnnexp.config.commands.program", lambda: "'my env'/fnnexp")
    ran = invoke("lr", *WORDS, "epochs=1")
    words = shlex.split(re.search(r"sweep around these rates: (.*)", ran.out)[1])
    assert words[:2] == ["my env/fnnexp", "-m"]
    assert words[-1] == "seed=range(5)"
    rates = [float(rate) for rate in words[-2].removeprefix("optimizer.lr=").split(",")]
    suggested = [float(rate) for rate in re.findall(r"^(?:he|max) +(\S+)", ran.out, re.MULTILINE)]
    assert len(suggested) == 2
    assert {*suggested} <= {*rates}
    assert all(rates[0] <= rate / 2 and rate * 2 <= rates[-1] for rate in suggested)
    swept = invoke(*words[1:], "dry_run=true")
    assert swept.status == 0, swept.err
    assert f"{2 * 5 * len(rates)} trials" in swept.out


@pytest.mark.parametrize(("words", "several"), [(("seed=3",), False), (("seed=0,1",), True), ((), True)])
def test_the_printed_sweep_keeps_the_seeds_that_were_given(words, several):
    sweep = parse(Command(overrides=words)).sweep([0.1, 1], several)
    assert sweep.split(" -m ")[1] == " ".join([*words, "optimizer.lr=0.1,1"])


def test_a_single_configuration_has_the_name_of_its_network(invoke, store):
    ran = invoke("lr", *WORDS[:2], "init=he", *WORDS[3:])
    assert re.search(r"^arch +suggested .*\nrelu_4 +\S+ .*\ntake the suggested rate; ", ran.out, re.MULTILINE)


BAD = {
    ("optimizer.lr=0.1",): ["optimizer.lr=0.1", "looks for the learning rate", "range=0.001..10"],
    ("optimizer.lr_for.mini=0.01,0.3",): ["looks for the learning rate", "range=0.001..10"],
    ("schedule=cosine",): ["schedule=cosine", "the rate rises", "omit schedule=cosine"],
    ("schedule.warmup=1",): ["schedule.warmup=1"],
    ("experiment=glorot_bengio_standard", "schedule=constant", "range=1"): ["range=1", "LOW..HIGH"],
    ("range=0.1..0.01",): ["range=0.1..0.01", "the first of the two must be the smaller"],
    ("range=0.1..0.1",): ["so the first of the two must be the smaller"],
    ("range=0.1..0.2",): ["at least 10 times"],
    ("range=0..1",): ["above 0"],
    ("range=a..1",): ["above 0"],
    ("range=1e-300..1e300",): ["range=1e-300..1e300", "from 1e-30 to 1e+30", "range=0.001..10"],
    ("range=0.1..10", "range=1..10"): ["range is given twice, as 0.1..10 and 1..10"],
    ("arch.hidden=32,16",): ["arch.hidden=[32,16] for one network", "arch.hidden=[32],[16] for 2 networks"],
    ("budget=3s",): ["budget=3s", "omit budget=3s"],
    ("search=random",): ["search=random"],
    ("diagnostics=true",): ["diagnostics=true"],
    ("nonsense",): ["nonsense"],
}


@pytest.mark.parametrize("words", BAD, ids=" ".join)
def test_bad_input_is_refused_before_anything_trains(invoke, own_folder, words):
    ran = invoke("lr", "data=digits", *words)
    assert ran.status == 2
    assert [text for text in BAD[words] if text not in ran.err] == []
    assert not (own_folder / ".fnnexp").exists()
    assert not (own_folder / "mlflow.db").exists()


def test_a_dry_run_shows_what_is_new(invoke, own_folder):
    ran = invoke("lr", *WORDS, "dry_run=true")
    assert trained(ran) == 2
    assert f"2 networks in 1 stack on 1 worker (loky); {2 * EPOCHS} epochs in all" in ran.out
    assert "\ntime: about " in ran.out
    assert not (own_folder / ".fnnexp").exists()
