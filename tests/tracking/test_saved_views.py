"""Tests of an experiment's page in MLflow's UI: its description and saved views, written as tags."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace

import numpy as np
import pytest
from mlflow import MlflowClient

from fnnexp.tracking import saved_views, sql
from fnnexp.tracking.experiment import About
from fnnexp.tracking.saved_views import CURVES, PARALLEL, RUNS
from fnnexp.tracking.writer import Tracker


@pytest.fixture(scope="module")
def uri(empty_store, tmp_path_factory):
    return empty_store(tmp_path_factory.mktemp("views"))


GRID = [
    {"arch": arch, "init": init, "batching": "mini", "seed": str(seed), "optimizer.lr": lr, "data": "mnist"}
    | {"data.validation": "5000"}
    for arch in ("relu_100", "tanh_128")
    for init, lr in (("max", "0.1"), ("he", "0.2"))
    for seed in range(3)
]


def about(experiment, command="fnnexp -cn grid", params=GRID):
    return About(experiment, params, command)


def tags_of(tracker, uri):
    return MlflowClient(uri).get_experiment_by_name(tracker.experiment).tags


@pytest.fixture
def described(uri, request):
    """Return ``described(**changes)``, which opens the tracker of a sweep and returns it."""

    def opened(**changes):
        tracker = Tracker(request.node.name, uri, about(request.node.name, **changes))
        tracker.open()
        return tracker

    return opened


def test_the_description_names_the_trials_and_the_commands(described, uri):
    described()
    note = tags_of(described(command="fnnexp -cn grid 'seed=range(9)'"), uri)["mlflow.note.content"]
    assert note.startswith("12 trials on mnist, one run each: arch (2) × init (2) × seed (3).")
    assert "    fnnexp -cn grid\n    fnnexp -cn grid 'seed=range(9)'" in note
    note = tags_of(described(), uri)["mlflow.note.content"]  # a repeated command moves to the end
    assert "    fnnexp -cn grid 'seed=range(9)'\n    fnnexp -cn grid\n\n" in note


def test_a_description_written_by_a_user_is_kept(described, uri):
    tracker = described()
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name(tracker.experiment).experiment_id
    client.set_experiment_tag(experiment, "mlflow.note.content", "mine")
    tags = tags_of(described(command="fnnexp another"), uri)
    assert tags["mlflow.note.content"] == "mine"
    assert "fnnexp another" in tags["fnnexp.commands"]


def test_a_view_is_the_same_to_every_version_of_mlflow(described, uri):
    tags = tags_of(described(), uri)
    for view in (RUNS, CURVES, PARALLEL):
        kept = json.loads(tags[f"mlflow.sharedViewState.{view}"])
        state = json.loads(kept.pop("state"))
        assert {key: kept[key] for key in state} == state
        assert set(kept) - set(state) == {"name", "createdAt", *saved_views.WHOLE} - set(state)


def test_a_param_has_a_column_if_no_other_column_determines_it(described, uri):
    def columns(**changes):
        view = tags_of(described(**changes), uri)[f"mlflow.sharedViewState.{RUNS}"]
        return json.loads(view)["selectedColumns"]

    assert "params.`optimizer.lr`" not in columns()  # init determines it
    independent = [{**trial, "optimizer.lr": lr} for trial in GRID for lr in ("0.1", "0.2")]
    assert columns(params=independent)[3:6] == [
        "params.`seed`",
        "params.`optimizer.lr`",
        "metrics.`best_val_accuracy`",
    ]
    assert "metrics.`test_accuracy`" in columns(params=[{**trial, "data.validation": "0"} for trial in GRID])


def view_of(tags, view):
    return json.loads(tags[f"mlflow.sharedViewState.{view}"])


def grouping_of(tags):
    return [key["groupByData"] for key in view_of(tags, CURVES)["groupBy"]["groupByKeys"]]


def grid_of(**values):
    """Return the params of a grid over three seeds, on MNIST with validation by default."""
    common = {"data": ["mnist"], "data.validation": ["10000"], "arch": ["relu_100"], "init": ["he"]}
    choices = common | {"batching": ["mini"], "epochs": ["3"], "seed": ["0", "1", "2"]} | values
    return [dict(zip(choices, trial, strict=True)) for trial in itertools.product(*choices.values())]


@pytest.fixture(params=["by SQL", "by MLflow's client"])
def sweep_into(uri, trials_of, request, monkeypatch):
    """Return ``sweep_into(experiment, params)``: begin a sweep's trials, return the experiment's tags."""
    if request.param == "by MLflow's client":
        monkeypatch.setattr(sql.SqlRuns, "of", lambda client: None)
        monkeypatch.setattr(sql, "trial_params", lambda *_: None)
        monkeypatch.setattr(sql, "trials", lambda *_, **named: None)
        monkeypatch.setattr(Tracker, "is_remote", True)
    trials = iter(trials_of("seed=range(30)"))

    def begin(experiment, params):
        experiment = f"{request.param}: {experiment}"
        tracker = Tracker(experiment, uri, about(experiment, params=params))
        tracker.open()
        tracker.known()
        for trial in params:
            tracker.begin(replace(next(trials), params=trial))
        while tracker.describe():
            pass
        return tags_of(tracker, uri)

    return begin


def test_views_and_description_follow_every_sweep_into_the_experiment(sweep_into):
    first = grid_of(arch=["relu_100", "tanh_128"], init=["max", "he"])
    second = grid_of(batching=["mini", "full"])  # its mini-batch trials are in the first sweep too
    assert grouping_of(sweep_into("both", first)) == ["arch", "init"]
    tags = sweep_into("both", second)
    assert grouping_of(tags) == ["arch", "init", "batching"]
    assert view_of(tags, CURVES)["name"] == "Mean curves over seeds, by arch, init, batching"
    axes = view_of(tags, PARALLEL)["compareRunCharts"][0]["selectedParams"]
    assert axes == ["arch", "init", "batching", "seed"]
    note = tags["mlflow.note.content"]
    assert note.startswith("15 trials on mnist, one run each: arch (2), init (2), batching (2), seed (3).")


def test_a_param_that_differs_between_two_sweeps_gets_a_column(sweep_into):
    sweep_into("epochs", grid_of(epochs=["3"]))
    columns = view_of(sweep_into("epochs", grid_of(epochs=["9"])), RUNS)["selectedColumns"]
    assert "params.`epochs`" in columns


@pytest.mark.parametrize("validated_first", [True, False])
def test_a_sweep_without_validation_keeps_the_validation_columns(sweep_into, validated_first):
    """Test metrics rank the trials then, since every trial has them."""
    for validated in (validated_first, not validated_first):
        params = grid_of(**{"data.validation": ["10000" if validated else "0"]})
        tags = sweep_into(f"validated first: {validated_first}", params)
    columns = view_of(tags, RUNS)["selectedColumns"]
    assert {"metrics.`best_val_accuracy`", "metrics.`val_loss`", "metrics.`test_accuracy`"} < {*columns}
    assert view_of(tags, RUNS)["orderByKey"] == "metrics.`test_accuracy`"
    charts = [chart["metricKey"] for chart in view_of(tags, CURVES)["compareRunCharts"]]
    assert charts == ["test_accuracy", "test_loss", "val_accuracy", "val_loss"]


def test_a_sweep_with_and_without_validation_has_the_columns_of_both():
    params = grid_of(**{"data.validation": ["10000", "0"]})
    columns = view_of(about("mixed", params=params).tags({}), RUNS)["selectedColumns"]
    assert {"metrics.`best_val_accuracy`", "metrics.`test_accuracy`"} < {*columns}


def test_deleted_runs_do_not_count(sweep_into, uri, request):
    tags = sweep_into("deleted", grid_of(arch=["relu_100", "tanh_128"]))
    assert grouping_of(tags) == ["arch"]
    client = MlflowClient(uri)
    name = next(each.name for each in client.search_experiments() if each.name.endswith(": deleted"))
    experiment = client.get_experiment_by_name(name).experiment_id
    for run in client.search_runs([experiment], "params.arch = 'tanh_128'"):
        client.delete_run(run.info.run_id)
    note = sweep_into("deleted", grid_of(init=["max"]))["mlflow.note.content"]
    assert note.startswith("6 trials on mnist, one run each: init (2) × seed (3).")
    client.delete_experiment(experiment)


def test_a_server_is_searched_for_runs_only_once(uri, monkeypatch):
    """A server needs seconds to read a thousand runs."""
    monkeypatch.setattr(Tracker, "is_remote", True)
    monkeypatch.setattr(sql, "trials", lambda *_, **named: None)
    searches = []
    search = MlflowClient.search_runs
    monkeypatch.setattr(MlflowClient, "search_runs", lambda *a, **k: searches.append(a) or search(*a, **k))
    tracker = Tracker("once", uri, about("once"))
    tracker.open()
    tracker.known()
    assert len(searches) == 1


GROUPINGS = {
    "one configuration": (grid_of(), ["arch", "init", "batching"]),
    "inits": (grid_of(init=["max", "he"]), ["init"]),
    "batching modes": (
        grid_of(init=["max", "he"], batching=["mini", "full", "sample"]),
        ["init", "batching"],
    ),
    "epochs": (grid_of(arch=["relu_100", "tanh_128"], epochs=["3", "9"]), ["arch", "epochs"]),
    "a param that follows from an option": (
        [{**trial, "init.gain": trial["init"].upper()} for trial in grid_of(init=["max", "he"])],
        ["init"],
    ),
    "a param that only some trials have": (
        [*grid_of(), *grid_of(**{"optimizer.momentum": ["0.9"]})],
        ["optimizer.momentum"],
    ),
    "a learning rate": (
        GRID + [{**trial, "optimizer.lr": "0.5"} for trial in GRID],
        ["arch", "init", "optimizer.lr"],
    ),
    "names of experiments": (grid_of(experiment=["a", "b"]), ["experiment"]),
}


@pytest.mark.parametrize(("trials", "keys"), GROUPINGS.values(), ids=GROUPINGS)
def test_mean_curves_average_over_seeds_alone(trials, keys):
    """Runs that MLflow puts into one group differ in seed and nothing else."""
    grouping = grouping_of(about("any", params=trials).tags({}))
    assert grouping == keys
    groups = {}
    for trial in trials:
        configuration = {key: value for key, value in trial.items() if key != "seed"}
        group = tuple(trial.get(key) for key in grouping)
        assert groups.setdefault(group, configuration) == configuration


def test_random_configurations_are_never_averaged_together():
    rng = np.random.default_rng(0)
    for _ in range(30):
        count = rng.integers(2, 60)
        drawn = {f"part{k}.value": rng.integers(0, 3, count).astype(str) for k in range(6)}
        trials = [dict(zip(drawn, values, strict=True)) for values in zip(*drawn.values(), strict=True)]
        trials = [{**trial, "seed": seed} for trial in trials for seed in "01"]
        grouping = about("any", params=trials).configuration_keys
        groups = {tuple(trial[key] for key in grouping) for trial in trials}
        assert len(groups) == len({tuple(trial[key] for key in drawn) for trial in trials})


def test_collapsed_groups_have_mlflows_ids():
    """MLflow's id of a group joins mode, key and value of every param; a missing value is null."""
    trials = [
        *grid_of(init=["max"]),
        *grid_of(**{"init": ["he"], "optimizer.momentum": ["0.9"], "epochs": ["3", "9"]}),
    ]
    closed = view_of(about("any", params=trials).tags({}), CURVES)["groupsExpanded"]
    assert closed == {
        "param.init.max,param.epochs.3": False,
        "param.init.he,param.epochs.3": False,
        "param.init.he,param.epochs.9": False,
    }
    trials = [*grid_of(), *grid_of(**{"optimizer.momentum": ["0.9"]})]
    closed = view_of(about("any", params=trials).tags({}), CURVES)["groupsExpanded"]
    assert closed == {"param.optimizer.momentum.0.9": False, "param.optimizer.momentum.null": False}


@pytest.mark.parametrize(
    ("seeds", "inits", "order", "shown"),
    [
        (3, 3, "metrics.`best_val_accuracy`", "SHOW_ALL"),
        (3, 30, "metrics.`best_val_accuracy`", "FIRST_20_RUNS"),
        (20, 6, "params.`seed`", "SHOW_ALL"),
    ],
)
def test_mean_curves_show_the_best_first_if_mlflow_loads_all_runs(seeds, inits, order, shown):
    """MLflow loads 100 runs. Sorted by a metric, a mean over loaded runs would favour the better seeds."""
    trials = grid_of(seed=[*map(str, range(seeds))], init=[f"init{k}" for k in range(inits)])
    view = view_of(about("any", params=trials).tags({}), CURVES)
    assert view["orderByKey"] == order
    assert view["runsHiddenMode"] == shown


def test_the_description_multiplies_counts_only_for_a_whole_grid():
    whole = grid_of(arch=["relu_100", "tanh_128"], init=["max", "he"])
    assert replace(about("any", params=whole), stored=whole).text() == (
        "12 trials on mnist, one run each: arch (2) × init (2) × seed (3)."
    )
    assert about("any", params=whole[:-1]).text() == (
        "11 trials on mnist, one run each: arch (2), init (2), seed (3)."
    )
    assert about("any", params=whole[:1]).text() == "One trial on mnist."


def test_descriptions_and_views_fit_mlflows_tags(described, uri):
    many = [{f"optimizer.{k}": str(i) for k in range(99)} | {"init": f"{i:040}"} for i in range(300)]
    tags = tags_of(described(command="x" * 9000, params=many), uri)
    assert max(map(len, tags.values())) <= 5000
    many = grid_of(**{f"a_rather_long_group.and_param_{k}": ["a rather long value", "b"] for k in range(9)})
    tags |= about("any", params=many).tags({})
    assert max(map(len, tags.values())) <= 5000
    assert tags["mlflow.note.content"].count("x" * 1000)
