"""search=tpe: batches of configurations that Optuna asks for, and their study."""

from __future__ import annotations

import logging
import re
import warnings
from importlib import metadata

import optuna
import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from stores import runs_in

import fnnexp
from fnnexp.config import compose
from fnnexp.config.commands import Command
from fnnexp.config.grids import spaces
from fnnexp.errors import FnnexpError
from fnnexp.sweeping.search import study, tpe
from fnnexp.sweeping.search.study import Result, StudyFile

LOG = "optimizer.lr=tag(log,interval(1e-4,1))"
SMALL = ["data=digits", "arch.hidden=[8]", "epochs=1"]
SEARCH = ["-m", *SMALL, "search=tpe", "search.trials=15", "init=he,max", LOG, "seed=0,1"]


def dimensions(*lines):
    overrides = OverridesParser.create().parse_overrides([*lines])
    return [
        (override.key_or_group, spaces.space_of(override, is_group=override.key_or_group == "init"))
        for override in overrides
    ]


def trained(folder):
    """Return what was trained: the id, learning rate, initializer and seed of each trial in a store."""
    params = {trial: run.data.params for trial, run in runs_in(folder).items()}
    return {(t, p["optimizer.lr"], p["init"], p["seed"]) for t, p in params.items()}


def told(out):
    """Return the lines about the batches and the best configuration."""
    return [line for line in out.splitlines() if line.startswith(("batch ", "search=tpe: best"))]


def load(folder, name="digits"):
    return optuna.load_study(study_name=name, storage=f"sqlite:///{folder}/studies/{name}.db")


@pytest.fixture(scope="module")
def searched(tmp_path_factory, empty_store, invoke):
    """Search; return the folder and the output."""
    folder = tmp_path_factory.mktemp("searched")
    empty_store(folder)
    ran = invoke(*SEARCH, "execution.n_jobs=1", cwd=folder)
    assert ran.status == 0, ran.err
    assert ran.err == ""
    return folder, ran.out


def test_a_search_trains_every_configuration_with_every_seed(searched):
    folder, out = searched
    configurations = {(lr, init) for _, lr, init, _ in trained(folder)}
    assert len(configurations) == 15
    assert len(trained(folder)) == 30
    assert "search=tpe: 15 configurations drawn from init, optimizer.lr, in batches of 12" in out
    assert told(out)[0].startswith("batch 1 of 2: best of 12: init=")
    assert told(out)[1].startswith("search=tpe: best of 15: init=")
    assert "optuna-dashboard sqlite:///studies/digits.db" in out


def test_the_first_batch_is_that_of_a_random_search(searched):
    words = [word.replace("search=tpe", "search=random").replace("=15", "=12") for word in SEARCH[1:]]
    random = {trial.id for trial in compose.compose(Command(overrides=(*words,), multirun=True)).trials}
    assert random < {trial for trial, *_ in trained(searched[0])}


def test_with_two_workers_and_after_a_stop_the_same_trials_are_asked_for(
    searched, invoke, empty_store, tmp_path
):
    folder, out = searched
    empty_store(tmp_path)
    stopped = invoke(*SEARCH, "execution.n_jobs=2", "budget=17trials")
    assert stopped.status == 0, stopped.err
    assert "budget=17trials is used up: 13 trials of the sweep are left" in stopped.out
    assert len(trained(tmp_path)) == 17
    values = [trial.value for trial in load(folder).trials]
    assert [trial.value for trial in load(tmp_path).trials] == values[:5]  # those with both seeds
    again = invoke("-m", *reversed(SEARCH[1:]), "execution.n_jobs=2")  # the order of the keys has no effect
    assert again.status == 0, again.err
    assert trained(tmp_path) == trained(folder)
    assert [trial.value for trial in load(tmp_path).trials] == values
    assert told(invoke(*SEARCH).out) == told(out)


def test_the_same_command_trains_nothing_and_a_larger_search_goes_on(searched, invoke):
    folder, out = searched
    before = trained(folder)
    (folder / "studies" / "digits.db").unlink()
    again = invoke(*SEARCH, "execution.n_jobs=1", cwd=folder)
    assert "0 trials finished" in again.out
    assert "30 were done before" in again.out
    assert told(again.out) == told(out)
    more = invoke(*SEARCH, "execution.n_jobs=1", "search.trials=16", cwd=folder)
    assert "2 trials finished" in more.out
    assert before < trained(folder)
    assert len(load(folder).trials) == 16


def test_the_study_has_the_values_of_the_store(searched, monkeypatch):
    folder, _ = searched
    monkeypatch.chdir(folder)
    runs = fnnexp.runs("digits").set_index("trial")
    means = runs.groupby(["optimizer.lr", "init"], observed=True)["val_accuracy"].mean()
    kept = load(folder)
    assert kept.direction.name == "MAXIMIZE"
    for trial in kept.trials:
        mean = means[trial.params["optimizer.lr"], trial.params["init"]]
        assert trial.value == pytest.approx(mean, abs=1e-12)
        own = runs.loc[trial.user_attrs["trials"]]
        assert sorted(own["seed"]) == [0, 1]
        assert [*own["name"]] == trial.user_attrs["names"]
        assert set(own["optimizer.lr"]) == {trial.params["optimizer.lr"]}
        assert trial.datetime_start <= trial.datetime_complete


def test_a_study_of_another_search_is_left_as_it_is(searched, invoke):
    folder, _ = searched
    file = folder / "studies" / "digits.db"
    content, before = file.read_bytes(), trained(folder)
    for words in (
        ["init=he,xavier"],
        ["seed=0"],
        ["dtype=float64"],
        ['where="init=he -> seed=0"'],
        ["optimizer.lr=interval(0.1,1)"],
    ):
        ran = invoke(*SEARCH, *words, cwd=folder)
        assert ran.status == 2
        assert "has the study of another search" in ran.err
        assert "write tracking.experiment=NAME" in ran.err
    assert file.read_bytes() == content
    assert trained(folder) == before


@pytest.mark.parametrize("content", [b"", b"no database", None])
def test_a_file_that_is_no_study_is_left_as_it_is(content, invoke, store, own_folder):
    file = own_folder / "studies" / "digits.db"
    file.parent.mkdir()
    file.mkdir() if content is None else file.write_bytes(content)
    ran = invoke(*SEARCH)
    assert ran.status == 2
    assert "is not a study of Optuna" in ran.err
    assert [*file.parent.iterdir()] == [file]
    assert file.is_dir() or file.read_bytes() == content


def test_a_seed_that_diverged_counts_as_the_worst(invoke, store, own_folder):
    ran = invoke("-m", *SMALL, "search=tpe", "search.trials=9", "optimizer.lr=1e30,0.001,0.1")
    assert ran.status == 0, ran.err
    assert "there are only 3 different configurations of optimizer.lr, and all are trained" in ran.out
    values = {trial.params["optimizer.lr"]: trial.value for trial in load(own_folder).trials}
    assert values["1e+30"] == values["0.001"] < values["0.1"]


def test_a_search_goes_on_where_the_results_are_good():
    """Without this, a mistake in the direction or in the order of the keys would not be seen."""
    space = dimensions("optimizer.lr=tag(log,interval(1e-4,1))", "init=he,max,xavier")
    rows = spaces.drawn(space, 12, "tpe")
    results = [Result(row, row[0] if row[1] == "max" else 0.0) for row in rows]
    for batch in (1, 2, 3):
        asked = tpe.ask(space, results, batch, 12)
        assert len({repr(row) for row in [*asked, *(result.row for result in results)]}) == 12 * (batch + 1)
        results += [Result(row, row[0] if row[1] == "max" else 0.0) for row in asked]
    first, last = (sum(result.value for result in part) for part in (results[:12], results[-12:]))
    assert last > 2 * first


def test_a_batch_depends_on_the_results_and_on_nothing_else():
    space = dimensions(LOG, "init=he,max")
    results = [Result(row, i / 12) for i, row in enumerate(spaces.drawn(space, 12, "tpe"))]
    rows = tpe.ask(space, results, 1, 12)
    assert tpe.ask(space, results, 1, 5) == rows[:5]  # so a larger search goes on
    swapped = [Result(result.row[::-1], result.value) for result in results]
    assert [row[::-1] for row in tpe.ask(space[::-1], swapped, 1, 12)] == rows
    assert tpe.ask(space, results, 2, 12) != rows


def test_a_space_that_is_nearly_used_up_gives_the_rest():
    space = dimensions("batching.size=range(8,33)")
    results = [Result((size,), 0.5) for size in range(8, 30)]
    assert sorted(tpe.ask(space, results, 1, 12)) == [(30,), (31,), (32,)]
    assert tpe.ask(space, [Result((size,), None) for size in range(8, 33)], 1, 12) == []


def test_every_kind_of_space_has_its_distribution():
    space = dimensions(
        LOG, "init=he,max", "batching.size=range(256,31,-32)", "init.gain=range(0.1,0.75,0.1)",
        "epochs=tag(log,interval(1,9))", "arch.hidden=[8],[9,'9']", "data.subset=interval(100,900)",
    )  # fmt: skip
    distributions = study.distributions(space)
    assert [*distributions] == sorted(distributions)
    assert distributions == {
        "optimizer.lr": FloatDistribution(1e-4, 1, log=True),
        "init": CategoricalDistribution(["he", "max"]),
        "batching.size": IntDistribution(32, 256, step=32),
        "init.gain": FloatDistribution(0.1, 0.7, step=0.1),
        "epochs": IntDistribution(1, 9, log=True),
        "arch.hidden": CategoricalDistribution(["[8]", "[9,'9']"]),
        "data.subset": IntDistribution(100, 900),
    }
    rows = spaces.drawn(space, 30, "random")
    for row in [*rows, *tpe.ask(space, [Result(row, row[0]) for row in rows], 1, 12)]:
        asked = study.params(space, row)
        assert tuple(study.value_in(each, asked[key]) for key, each in space) == row
        assert all(
            distributions[key]._contains(distributions[key].to_internal_repr(asked[key]))
            for key in distributions
        )


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["search.trials=0"], "search.trials=0: must be 1 or more"),
        (["search.trials=null"], "search.trials has no value; write search=tpe search.trials=60"),
        (["init=he", "optimizer.lr=1"], "there is nothing to draw"),
        (["zip=[[init,optimizer.lr]]"], "draws each key by itself, so zip has no meaning"),
        (["until=settled", "seed=0"], "omit until=settled, or write search=random"),
        (["where=epochs>5"], "where: leaves out all 24 jobs"),
    ],
)
def test_impossible_searches_are_refused_before_anything_trains(words, message):
    with pytest.raises(FnnexpError) as error:
        compose.compose(Command(overrides=(*SEARCH[1:], *words), multirun=True))
    assert message in str(error.value)


@pytest.mark.parametrize(("version", "state"), [(None, "is not installed"), ("4.9.1", "as version 4.9.1")])
def test_without_optuna_the_error_says_what_to_install(version, state, monkeypatch):
    installed = metadata.version

    def without(name):
        if name != "optuna":
            return installed(name)
        if version is None:
            raise metadata.PackageNotFoundError(name)
        return version

    monkeypatch.setattr(metadata, "version", without)
    with pytest.raises(FnnexpError) as error:
        compose.compose(Command(overrides=(*SEARCH[1:],), multirun=True))
    assert state in str(error.value)
    assert 'pip install "fnnexp[optuna]"' in str(error.value)


def test_conditions_leave_out_configurations_of_every_batch():
    command = Command(overrides=(*SEARCH[1:], "where=init=he -> optimizer.lr>0.01"), multirun=True)
    first = compose.compose(command)
    drawn = first.drawn
    he = [row for row in drawn.rows if row[0] == "he"]
    kept = [row for row, trials in zip(drawn.rows, drawn.trials, strict=True) if trials]
    assert 0 < len(drawn.rows) - len(kept) < len(he)
    assert all(init != "he" or lr > 0.01 for init, lr in kept)
    none = compose.batch(first, [("he", 0.001), ("he", 0.002)])
    assert none.trials == ()
    assert [*none.drawn.trials] == [[], []]


def test_the_plan_shows_the_first_batch(invoke, store):
    ran = invoke(*SEARCH, "dry_run=true")
    assert "digits: 24 trials, 0 done, 24 to run" in ran.out
    assert "search=tpe: this is the first batch; 3 more configurations will be chosen by the" in ran.out
    assert re.search(r"^time: about .*: .* for the first batch, .* for the others$", ran.out, re.MULTILINE)


def test_optuna_says_nothing_and_its_settings_stay(own_folder, capfd):
    optuna.logging.set_verbosity(optuna.logging.DEBUG)
    level = logging.getLogger("alembic").level
    space = dimensions(LOG)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        filters = [*warnings.filters]
        file = StudyFile("mine", space, ["a"])
        file.add([Result(row, 0.5) for row in spaces.drawn(space, 12, "tpe")], "val_accuracy")
        file.write()
        tpe.ask(space, [Result((0.1,), 0.5)], 1, 3)
        assert study.search_of(file.path)
        file.close()
        assert warnings.filters == filters
    assert optuna.logging.get_verbosity() == optuna.logging.DEBUG
    assert logging.getLogger("alembic").level == level
    assert capfd.readouterr() == ("", "")
    assert [path.name for path in (own_folder / "studies").iterdir()] == ["mine.db"]
