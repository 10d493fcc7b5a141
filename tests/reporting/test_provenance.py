"""How to reproduce a report: the recorded commands, the data and the software of its trials."""

import re
import shlex
from functools import partial
from pathlib import Path

import pandas as pd
import pytest

from fnnexp.config.commands import quoted, report_command
from fnnexp.config.jobs import default_options
from fnnexp.config.schema import CHOICES
from fnnexp.reporting.document.blocks import Code
from fnnexp.reporting.sections import provenance
from fnnexp.results import filters

COMMAND = partial(report_command, "a b")
SWEEP = "fnnexp -m init=max,he 'seed=range(2)'"


def frame(n=4, **columns):
    """Return a frame of trials with different seeds."""
    rows = {"trial": [f"{i:016x}" for i in range(n)], "seed": range(n), "arch": "relu_100", "data": "digits",
            "data_checksum": "e" * 64, "status": "finished"}  # fmt: skip
    return pd.DataFrame(rows | columns)


def reproduced(runs, where=()):
    """Return the sentences of the section before the list of data and software, and its commands."""
    blocks = provenance.section(COMMAND, where, runs, ["runs.csv"]).blocks
    end = next(i for i, block in enumerate(blocks) if block.text.startswith("Data and software"))
    commands = [block.text for block in blocks[:end] if isinstance(block, Code)]
    return [block.text for block in blocks[:end] if not isinstance(block, Code)], commands


def test_the_command_of_a_sweep_is_printed_once_as_it_was_recorded():
    (sentence,), commands = reproduced(frame(command=SWEEP))
    assert commands == [SWEEP]
    assert sentence == (
        "In an empty store, this command trains the 4 trials of this report, with the same ids. "
        "In the present store, finished trials are not trained again."
    )


def test_several_sweeps_have_commands_in_the_order_of_their_runs():
    recorded = ["fnnexp seed=7", SWEEP, "fnnexp seed=7", "fnnexp -cn card_grid"]
    (sentence,), commands = reproduced(frame(command=recorded))
    assert commands == ["fnnexp seed=7", SWEEP, "fnnexp -cn card_grid"]
    assert "these commands train the 4 trials" in sentence


def test_commands_of_early_versions_get_their_default_of_no_validation_rows():
    """Presets set it, and commands with validation rows or an explicit number need no change."""
    cases = [
        ("fnnexp seed=7", 0, None, "fnnexp seed=7 data.validation=0"),
        ("fnnexp seed=8", 237, None, "fnnexp seed=8"),
        ("fnnexp data.validation=0", 0, None, "fnnexp data.validation=0"),
        ("fnnexp experiment=relu_full_batch", 0, "relu_full_batch", "fnnexp experiment=relu_full_batch"),
        (None, 0, None, None),
        ("reboot", 0, None, None),
    ]
    command, held_out, preset, expected = zip(*cases, strict=True)
    runs = frame(len(cases), command=command, experiment=preset).assign(
        **{"data.validation": pd.array(held_out, "Int64")}
    )
    for part in (runs, runs.astype({"command": "str", "experiment": "str"})):
        commands = provenance.commands(part)
        assert [None if pd.isna(text) else text for text in commands] == [*expected]
    assert provenance.commands(runs.drop(columns="data.validation"))[0] == "fnnexp seed=7"


def test_the_first_eight_commands_are_printed_and_the_rest_counted():
    runs = frame(11, command=[f"fnnexp seed={i}" for i in range(11)])
    (_, note), commands = reproduced(runs)
    assert commands == [f"fnnexp seed={i}" for i in range(8)]
    assert note == "3 more commands trained the rest."
    (_, note), _ = reproduced(runs[:9])
    assert note == "1 more command trained the rest."
    assert len(reproduced(runs[:8])[0]) == 1


def test_the_report_on_a_part_says_that_its_commands_train_more():
    (sentence,), commands = reproduced(frame(command=SWEEP)[:2], ["init=max"])
    assert commands == [SWEEP]
    assert "trains the 2 trials of this report and the rest of their sweep, with the same ids" in sentence


def test_a_trial_without_a_command_can_be_run_from_its_config_file():
    for runs in (frame(), frame(command=None), frame(command=[None] * 4)):
        (sentence, *how), commands = reproduced(runs)
        assert commands == []
        assert sentence == "No command is recorded for 4 trials."
        assert how == [text for text, *_ in provenance.BY_FILE]
    (first, second, *_), commands = reproduced(frame(command=[SWEEP, None, SWEEP, None]))
    assert commands == [SWEEP]
    assert "the 2 trials of this report" in first
    assert second.startswith("No command is recorded for 2 trials.")


def test_if_the_data_file_changed_only_reports_on_one_version_have_a_command():
    runs = frame(command=SWEEP, data_checksum=["e" * 64, "e" * 64, "f" * 64, "f" * 64])
    (sentence,), (command,) = reproduced(runs)
    assert sentence.startswith("The data file changed between these trials")
    _, _, name, selection = shlex.split(command)
    assert name == "a b"
    rows = filters.where(runs, dict([selection.split("=")]))
    assert rows["trial"].tolist() == runs["trial"].tolist()[:2]
    assert reproduced(rows, [selection])[1] == [SWEEP]


@pytest.mark.parametrize(
    "hostile",
    [
        "fnnexp x; rm -rf .",
        "fnnexp $(reboot)",
        "fnnexp `reboot` | sh",
        "fnnexp > /etc/passwd",
        "fnnexp a && b",
    ],
)
def test_hostile_commands_in_a_store_are_quoted(hostile):
    _, (command,) = reproduced(frame(command=hostile))
    assert shlex.split(command) == shlex.split(hostile)
    unquoted = re.sub("'[^']*'", "", command)
    assert not set(unquoted) & set(";$`|>&")


@pytest.mark.parametrize("hostile", ["rm -rf .", "", "fnnexp 'a", "fnnexp a\nreboot", "fnnexp \x1b[2J"])
def test_texts_that_are_not_fnnexp_commands_are_not_printed(hostile):
    (sentence, *_), commands = reproduced(frame(command=hostile))
    assert commands == []
    assert sentence == "No command is recorded for 4 trials."


def test_the_section_ends_with_the_command_and_files_of_the_report():
    store, files = {"store": " --uri 'sqlite:////c d.db'"}, ["runs.csv", "report.md"]
    for command, folder, options in [
        (COMMAND, None, []),
        (partial(COMMAND, **store), None, ["--uri", "sqlite:////c d.db"]),
        (partial(COMMAND, **store), Path("e f"), ["--uri", "sqlite:////c d.db", "--folder", "e f"]),
    ]:
        *_, code, links = provenance.section(command, ["init=he"], frame(), files, folder).blocks
        assert shlex.split(code.text) == ["fnnexp", "report", "a b", "init=he", *options]
        assert links.files == files


@pytest.mark.parametrize(
    "text",
    ["a b", "it's", "c:\\d\\", "a\\'b", "null", "1e5", "[1,", "x,y", "a=b", "ü", "007", ".5", "~/x.npz"],
)
def test_a_quoted_text_is_unchanged_by_hydra(text, jobs_of):
    (job,) = jobs_of(f"data.path={quoted(text)}")
    assert job.config.data.path == text


def test_the_default_options_are_those_that_hydra_composes(jobs_of):
    (job,) = jobs_of()
    assert default_options() == {group: job.choices[group] for group in CHOICES}


def test_data_and_software_are_listed_with_counts_where_they_differ():
    runs = frame(
        3,
        versions="numpy 2",
        blas=None,
        git_commit=["a", "a", "b and changes"],
        engine=["numpy 2", "numba 0", "numpy 2"],
    )
    facts = provenance.ran_with(runs)
    assert facts[0].startswith("data (SHA-256): ")
    assert facts[1] == "commit: a (2 trials); b and changes (1 trial)"
    assert facts[2:4] == ["versions: numpy 2", "BLAS and its kernel: not recorded"]
    assert facts[4:] == ["engine: numpy 2 (2 trials); numba 0 (1 trial)"]
    assert provenance.ran_with(runs[["trial"]]) == []
    begun = runs.assign(engine=["numpy 2", "numpy", "numpy"], status=["finished", "pruned", "running"])
    assert provenance.ran_with(begun)[4:] == ["engine: numpy 2"]  # the others have not recorded a version
