"""Searches that draw configurations: search=random and search=sobol."""

from __future__ import annotations

import warnings
from collections import Counter

import numpy as np
import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from scipy.stats import chisquare, kstest, qmc
from stores import runs_in

import fnnexp
from fnnexp.config import compose
from fnnexp.config.commands import Command
from fnnexp.config.grids import spaces
from fnnexp.errors import FnnexpError

LOG = "optimizer.lr=tag(log,interval(1e-4,1))"
SEARCH = [
    "data=digits",
    "search=random",
    "search.trials=30",
    LOG,
    "init=he,max",
    "batching.size=interval(16,64)",
]


def space(line):
    (override,) = OverridesParser.create().parse_overrides([line])
    return spaces.space_of(override, is_group=line.startswith("init="))


def values(line, n=2000, search="random"):
    """Return what is drawn from one key, with duplicates."""
    key = line.partition("=")[0]
    return [space(line).at(u) for u in spaces.DRAWS[search]([key], n)[:, 0].tolist()]


def settings(*words):
    """Return the drawn values and the seed of each job of a command, in its order."""
    jobs = compose.jobs_of(Command(overrides=words, multirun=True))
    return [(c.optimizer.lr, c.init.method, c.batching.size, c.seed) for c in (job.config for job in jobs)]


@pytest.mark.parametrize(
    ("line", "distribution"),
    [
        (LOG, ("loguniform", (1e-4, 1))),
        ("optimizer.lr=interval(0.5,2)", ("uniform", (0.5, 1.5))),
        ("optimizer.momentum=interval(0.98765,0.98769)", ("uniform", (0.98765, 0.00004))),
        ("schedule.warmup=interval(-2,2)", ("uniform", (-2, 4))),
    ],
)
@pytest.mark.parametrize("search", ["random", "sobol"])
def test_numbers_have_the_distribution_of_their_interval(line, distribution, search):
    drawn = values(line, search=search)
    assert kstest(drawn, *distribution).pvalue > 0.01
    first = space(line)
    assert first.low <= min(drawn)
    assert max(drawn) <= first.high
    assert len(set(drawn)) > 30


def test_numbers_are_short():
    assert all(float(f"{value:.3e}") == value for value in values(LOG))
    assert spaces.Interval(1e-4, 1, is_log=True).at(0.5) == 0.01
    assert spaces.Interval(-1e308, 1e308).at(0.75) == 5e307


def test_whole_numbers_include_both_ends_with_the_same_probability():
    counts = Counter(values("batching.size=interval(3,7)", 5000))
    assert sorted(counts) == [3, 4, 5, 6, 7]
    assert chisquare([*counts.values()]).pvalue > 0.01
    assert {type(value) for value in counts} == {int}


def test_the_logarithms_of_whole_numbers_are_uniform():
    drawn = values("batching.size=tag(log,interval(1,1000))", 8000)
    assert 1 <= min(drawn) < max(drawn) <= 1000
    widths = np.diff(np.log([0.5, 3.5, 31.5, 316.5, 1000.5]))
    counts = np.histogram(drawn, [0.5, 3.5, 31.5, 316.5, 1000.5])[0]
    assert chisquare(counts, widths / widths.sum() * len(drawn)).pvalue > 0.01


def test_choices_and_ranges_have_the_same_probability():
    for line in ("init=he,max,xavier", "batching.size=range(32,257,32)", "optimizer.lr=range(0.1,0.5,0.1)"):
        counts = Counter(map(str, values(line)))
        assert len(counts) == space(line).size
        assert chisquare([*counts.values()]).pvalue > 0.01
    for line in ("optimizer.lr=range(0.1,0.5,0.1)", "optimizer.lr=range(1,-1.5,-0.3)"):
        (override,) = OverridesParser.create().parse_overrides([line])
        assert [*space(line).values] == [*override.sweep_iterator()]
    assert space("seed=range(0,1000000000000000000)").size == 10**18  # it is not made as a list


@pytest.mark.parametrize("search", ["random", "sobol"])
def test_more_trials_begin_with_the_same_configurations(search):
    few = settings(*SEARCH, f"search={search}")
    assert len(set(few)) == 30
    assert settings(*SEARCH, f"search={search}", "search.trials=45")[:30] == few
    words = [word for word in SEARCH if "search.trials" not in word]
    assert settings("search.trials=30", f"search={search}", *reversed(words), f"search={search}") == few


def test_the_draws_of_a_key_do_not_depend_on_other_keys():
    alone = settings("data=digits", "search=random", "search.trials=30", LOG)
    assert [lr for lr, *_ in alone] == [lr for lr, *_ in settings(*SEARCH)]


def test_each_configuration_has_every_seed():
    once, twice = settings(*SEARCH), settings(*SEARCH, "seed=3,1")
    assert twice == [(*row[:3], seed) for row in once for seed in (3, 1)]
    one_key = ["data=digits", "search=random", "search.trials=5", LOG]
    once, twice = settings(*one_key), settings("seed=3,1", *one_key)
    assert twice == [(*row[:3], seed) for row in once for seed in (3, 1)]


def test_sobol_draws_the_points_of_scipy():
    keys = ["b", "c", "a"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        points = spaces.sobol(keys, 100)
    expected = qmc.Sobol(3, rng=0).random(128)[:100]
    assert np.array_equal(points, expected[:, [1, 2, 0]])
    dimensions = [("b", space(LOG)), ("c", space("init=he,max")), ("a", space("batching.size=range(4)"))]
    rows = spaces.drawn(dimensions, 100, "sobol")
    for (lr, init, size), (b, c, a) in zip(rows, points, strict=True):
        assert lr == pytest.approx(10 ** (-4 + 4 * b), rel=1e-3)
        assert (init, size) == (["he", "max"][int(2 * c)], int(4 * a))


@pytest.mark.parametrize("search", ["random", "sobol"])
def test_a_configuration_is_drawn_once(search):
    dimensions = [("batching.size", space("batching.size=range(40)")), ("init", space("init=he,max"))]
    for n in (1, 7, 40, 79):
        rows = spaces.drawn(dimensions, n, search)
        assert len(set(rows)) == len(rows) == n
    assert sorted(spaces.drawn(dimensions, 80, search)) == sorted(spaces.drawn(dimensions, 999, search))
    assert len(set(spaces.drawn(dimensions, 80, search))) == 80


def test_a_narrow_interval_runs_out_of_numbers():
    dimensions = [("optimizer.lr", space("optimizer.lr=interval(1,1.5)"))]
    rows = spaces.drawn(dimensions, 3000, "random")
    assert len(set(rows)) == len(rows) == 501


def test_a_small_space_is_trained_whole_and_this_is_said(invoke, store):
    words = ["-m", "data=digits", "search=random", "init=he,max", "arch.hidden=[8],[9],[10]", "seed=0,1"]
    out = invoke(*words, "search.trials=50", "dry_run=true").out
    assert "there are only 6 different configurations of init, arch.hidden, and all are trained" in out
    assert "with 2 seeds each, 12 trials" in out
    assert "digits: 12 trials, 0 done, 12 to run" in out


def test_conditions_leave_out_drawn_configurations():
    rows = settings(*SEARCH, "seed=0,1")
    kept = settings(*SEARCH, "seed=0,1", "where=init=he -> batching.size>=40")
    assert 0 < len(kept) < len(rows)
    assert kept == [row for row in rows if row[1] != "he" or row[2] >= 40]


def test_a_search_in_a_grids_file(tmp_path):
    text = "defaults: [config, _self_]\nhydra:\n  sweeper:\n    params: {%s}\n  mode: MULTIRUN\n"
    lines = "search: random, search.trials: 5, init: 'he,max', optimizer.lr: 'tag(log,interval(1e-4,1))'"
    (tmp_path / "mine.yaml").write_text(text % lines)
    jobs = compose.jobs_of(Command("mine", ("data=digits",), config_dir=tmp_path))
    from_command = ["data=digits", "search=random", "search.trials=5", "init=he,max", LOG]
    assert [job.config.optimizer.lr for job in jobs] == [lr for lr, *_ in settings(*from_command)]
    more = Command("mine", ("data=digits", "search.trials=9"), config_dir=tmp_path)
    assert len(compose.jobs_of(more)) == 9


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("search=random seed=0,1", "no key has several values except seeds"),
        ("search=random", "there is nothing to draw"),
        ("search=random search.trials=0 init=he,max", "search.trials=0: must be 1 or more"),
        ("search=random search.trials=4,5 init=he,max", "a sweep has one search; write one value"),
        ("search=random,sobol init=he,max", "a sweep has one search; write one value"),
        ("search.trials=9 init=he,max", "search.trials=9 has no meaning here; it goes with search=random"),
        ("search=random optimizer.lr=interval(1,0.1)", "write optimizer.lr=interval(0.1,1)"),
        ("search=random optimizer.lr=interval(1,1)", "must be below its end; write optimizer.lr=1"),
        ("search=random optimizer.lr=interval(0,inf)", "the ends of an interval must be finite"),
        ("search=random optimizer.lr=tag(log,interval(0,1))", "optimizer.lr=tag(log,interval(0.0001,1))"),
        ("search=random optimizer.lr=tag(lg,interval(1,2))", "the only tag is log"),
        ("search=random batching.size=tag(log,range(9))", "a tag goes with an interval"),
        ("search=random batching.size=interval(1.2,1.8)", "write batching.size=interval(1,2)"),
        ("search=random arch.hidden=interval(8,9)", "an interval draws a number, and arch.hidden is not"),
        ("search=random init=interval(8,9)", "an interval draws a number, and init is not"),
        ("search=random nosuch=interval(0,1)", "nosuch: there is no such key; there are "),
        ("search=sobol optimizer.lrr=interval(0,1)", "there is no such key; there are optimizer.name, "),
        ("optimiser.lr=interval(0,1)", "there is no such key"),
        ("search=random seed=interval(0,9)", "seeds are not drawn"),
        ("search=random batching.size=range(3,3)", "the sweep has no jobs, because a key has no values"),
        ("search=random init=glob(zz*)", "the sweep has no jobs, because a key has no values"),
        ("search=random init=he,max seed=range(0)", "the sweep has no jobs, because a key has no values"),
        ("search=random optimizer.lr=interval(0,1),interval(2,3)", "must stand alone"),
        ("search=random init=he,max epochs=1,2 zip=[[init,epochs]]", "so zip has no meaning"),
        ("optimizer.lr=interval(0,1)", "or to draw values add search=random search.trials=20"),
        ("search=random search.trials=99999999999 optimizer.lr=interval(0,1)", "GB are left"),
    ],
)  # fmt: skip
def test_impossible_searches_are_refused_before_anything_trains(words, message):
    with pytest.raises(FnnexpError) as error:
        compose.jobs_of(Command(overrides=("data=digits", *words.split()), multirun=True))
    assert message in str(error.value)


def test_a_search_needs_a_sweep(invoke, store):
    ran = invoke("data=digits", "search=random")
    assert ran.status == 2
    assert "search=random: chooses the configurations of a sweep; write -m and" in ran.err


def test_a_search_trains_resumes_and_goes_on(invoke, store, tmp_path):
    words = ["-m", "data=digits", LOG, "init=he,max", "arch.hidden=[8]", "seed=0,1", "epochs=1"]
    words += ["execution.n_jobs=1", "search=random"]
    ran = invoke(*words, "search.trials=3", "budget=4trials")
    assert ran.status == 0, ran.err
    assert (
        "search=random: 3 configurations drawn from optimizer.lr, init; with 2 seeds each, 6 trials"
        in ran.out
    )
    assert "budget=4trials is used up: 2 trials of the sweep are left" in ran.out
    seeds = Counter(run.data.params["seed"] for run in runs_in(tmp_path).values())
    assert seeds == {"0": 3, "1": 1}
    assert "2 trials finished" in invoke(*words, "search.trials=3").out
    again = invoke(*words, "search.trials=4").out
    assert "2 trials finished" in again
    assert "6 were done before" in again
    runs = fnnexp.runs("digits")
    by_python = fnnexp.sweep(
        LOG, data="digits", init=["he", "max"], seed=[0, 1], epochs=1, search="random",
        **{"arch.hidden": [[8]], "execution.n_jobs": 1, "search.trials": 4},
    )  # fmt: skip
    assert {*by_python["trial"]} == {*runs["trial"]}
    assert not [column for column in runs if column.startswith("search")]


def test_the_id_of_a_trial_does_not_depend_on_the_search(trials_of):
    drawn = trials_of(*SEARCH[1:])
    first = drawn[0].config
    words = [f"{key}={first['optimizer']['lr']}" for key in ("optimizer.lr",)]
    words += [f"init={drawn[0].method}", f"batching.size={first['batching']['size']}"]
    (alone,) = trials_of(*words)
    assert alone.id == drawn[0].id
    assert alone.name == drawn[0].name


def test_python_says_how_to_write_an_interval(store):
    with pytest.raises(FnnexpError, match=r'fnnexp.sweep\("optimizer.lr=tag\(log,interval\(1e-4,1\)\)", …\)'):
        fnnexp.sweep(data="digits", search="random", **{"optimizer.lr": "tag(log,interval(1e-4,1))"})
