"""The name of the MLflow experiment that a command's trials go into."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import fnnexp
from fnnexp.config.compose import LONGEST_DATA_NAME, experiment_name
from fnnexp.errors import ConfigError

SMALL = ("arch.hidden=[4]", "batching=full", "epochs=1", "execution.n_jobs=1", "data.scale=raw")


@pytest.mark.parametrize(
    ("overrides", "config_name", "name"),
    [
        ([], "config", "mnist"),
        (["data=digits"], "config", "digits"),
        (["data=digits"], "card_grid", "card_grid"),
        (["data=digits"], "folder/my_grid.yaml", "my_grid"),
        (["tracking.experiment=mine"], "card_grid", "mine"),
        (["tracking.experiment=mine"], "config", "mine"),
        (["tracking.experiment=mine", "experiment=relu_full_batch"], "config", "mine"),
        (["experiment=relu_full_batch", "seed=0,1"], "config", "relu_full_batch"),
        (["experiment=relu_full_batch,tanh_mini_batch"], "config", "mnist"),
    ],
)
def test_an_experiment_is_named_by_key_then_grid_then_preset_then_data(overrides, config_name, name, jobs_of):
    assert experiment_name(jobs_of(*overrides), config_name) == name


def test_several_data_sets_are_joined_in_alphabetical_order(jobs_of):
    assert experiment_name(jobs_of("data=mnist,digits"), "config") == "digits_mnist"
    assert experiment_name(jobs_of("data=digits,mnist"), "config") == "digits_mnist"


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("mine.npz", "mine"),
        ("in/a/folder/mine.csv", "mine"),
        ("letters.tsv.gz", "letters"),
        ("LETTERS.CSV.GZ", "LETTERS"),
        ("v1.2.npz", "v1.2"),
        ("in/fashion/", "fashion"),
        ("my data (2).npz", "my_data_2"),
        ("-rf.npz", "rf"),
        ("..", "files"),
        (".npz", "files"),
        ("größe.npz", "größe"),
        ("gro\u0308ße.npz", "größe"),
        (f"{'x' * 100}.npz", "x" * LONGEST_DATA_NAME),
    ],
)
def test_an_experiment_on_a_users_file_is_named_after_the_file(path, name, jobs_of):
    jobs = jobs_of("data=files", f"data.path='{path}'")
    assert experiment_name(jobs, "config") == name


def test_the_names_of_many_files_are_cut_to_the_first(jobs_of):
    paths = ",".join(f"a_file_with_a_name_{i}.npz" for i in range(9))
    name = experiment_name(jobs_of("data=files", f"data.path={paths}"), "config")
    assert name == "a_file_with_a_name_0_a_file_with_a_name_1_and_7_more"


def test_a_users_data_option_names_the_experiment(invoke, store, own_folder):
    write_file(own_folder / "1.npz")
    option = own_folder / "conf" / "data" / "fashion.yaml"
    option.parent.mkdir(parents=True)
    option.write_text("defaults: [files]\npath: 1.npz\n")
    ran = invoke("-cd", "conf", "data=fashion", *SMALL)
    assert ran.status == 0, ran.err
    assert fnnexp.runs("fashion")["data"].tolist() == ["fashion"]


@pytest.mark.usefixtures("blank_figures")
def test_a_report_accepts_the_name_of_a_users_file(invoke, store, own_folder):
    write_file(own_folder / "my letters.npz")
    ran = invoke("data=files", "data.path='my letters.npz'", *SMALL)
    assert ran.status == 0, ran.err
    assert "fnnexp report my_letters\n" in ran.out
    assert invoke("report", "my_letters").status == 0
    assert Path("reports", "my_letters", "report.html").exists()


def test_trials_recorded_in_another_experiment_are_found_by_its_name(invoke, store):
    """Trials went into `fnnexp` before experiments were named after the data."""
    command = ("data=digits", *SMALL)
    assert invoke(*command, "tracking.experiment=fnnexp").status == 0
    recorded = fnnexp.runs("fnnexp")["run_id"].tolist()
    assert invoke(*command, "tracking.experiment=fnnexp").status == 0
    assert fnnexp.runs("fnnexp")["run_id"].tolist() == recorded
    assert invoke(*command).status == 0
    assert set(fnnexp.runs("digits")["run_id"]).isdisjoint(recorded)


@pytest.mark.parametrize("name", ["''", "'   '", "x" * 201])
def test_a_name_that_is_empty_or_too_long_is_refused(name, jobs_of):
    with pytest.raises(ConfigError, match="must be 1 to 200 visible characters"):
        experiment_name(jobs_of(f"tracking.experiment={name}"), "config")


def write_file(path):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (40, 4, 4), dtype=np.uint8)
    labels = np.arange(40, dtype=np.uint8) % 2
    np.savez(path, x_train=images, y_train=labels, x_test=255 - images[:10], y_test=labels[:10])
