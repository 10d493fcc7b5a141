"""How to reproduce a report: the commands recorded on its runs, and what the trials ran with."""

import doctest
import re
import shlex
from functools import partial
from pathlib import Path

import pandas as pd
import pytest

from fnnexp import api
from fnnexp.config import schema
from fnnexp.config.commands import quoted, report_command
from fnnexp.config.jobs import default_options
from fnnexp.config.schema import CHOICES
from fnnexp.reporting.document.blocks import Code
from fnnexp.reporting.sections import provenance
from fnnexp.results import filters

COMMAND = partial(report_command, "a b")
SWEEP = "fnnexp -m init=max,he 'seed=range(2)'"


def frame(n=4, **columns):
    """Return a frame of trials of different seeds."""
    rows = {"trial": [f"{i:016x}" for i in range(n)], "seed": range(n), "arch": "relu_100", "data": "digits",
            "data_checksum": "e" * 64, "status": "finished"}  # fmt: skip
    return pd.DataFrame(rows | columns)


def reproduced(runs, where=()):
    """Return the sentences of the section before what the trials ran with, and its commands."""
    blocks = provenance.section(COMMAND, where, runs, ["runs.csv"]).blocks
    end = next(i for i, block in enumerate(blocks) if block.text.startswith("It ran with these"))
    commands = [block.text for block in blocks[:end] if isinstance(block, Code)]
    return [block.text for block in blocks[:end] if not isinstance(block, Code)], commands


def test_the_command_of_a_sweep_is_printed_once_as_it_was_recorded():
    (sentence,), commands = reproduced(frame(command=SWEEP))
    assert commands == [SWEEP]
    assert sentence.startswith(
        "In an empty store this trains the 4 trials of this report, with the same ids;"
    )
    assert "what is finished is not trained again" in sentence


def test_several_sweeps_are_several_commands_in_the_order_of_their_runs():
    others = ["fnnexp seed=7", SWEEP, "fnnexp seed=7", "fnnexp -cn card_grid"]
    (sentence,), commands = reproduced(frame(command=others))
    assert commands == ["fnnexp seed=7", SWEEP, "fnnexp -cn card_grid"]
    assert "these train the 4 trials" in sentence


def test_a_command_of_when_nothing_was_held_out_by_default_says_so_now():
    """A preset says it itself; who trained with validation rows, or wrote how many, needs no more words."""
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
        pasted = provenance.commands(part)
        assert [None if pd.isna(each) else each for each in pasted] == [*expected]
    assert provenance.commands(runs.drop(columns="data.validation"))[0] == "fnnexp seed=7"


def test_of_more_than_eight_commands_the_first_eight_are_printed_and_how_many_there_are_more():
    runs = frame(11, command=[f"fnnexp seed={i}" for i in range(11)])
    (_, more), commands = reproduced(runs)
    assert commands == [f"fnnexp seed={i}" for i in range(8)]
    assert more == "3 more commands trained the others."
    (_, more), _ = reproduced(runs[:9])
    assert more == "1 more command trained the others."
    assert len(reproduced(runs[:8])[0]) == 1


def test_the_commands_of_a_part_are_said_to_train_more():
    (sentence,), commands = reproduced(frame(command=SWEEP)[:2], ["init=max"])
    assert commands == [SWEEP]
    assert "trains the 2 trials of this report, and the others of their sweep, with the same ids" in sentence


def test_a_trial_without_a_command_can_be_run_from_its_config_file():
    for runs in (frame(), frame(command=None), frame(command=[None] * 4)):
        (sentence,), commands = reproduced(runs)
        assert commands == []
        assert sentence == f"No command is recorded of 4 trials. {provenance.BY_FILE}"
    (first, second), commands = reproduced(frame(command=[SWEEP, None, SWEEP, None]))
    assert commands == [SWEEP]
    assert "the 2 trials of this report" in first
    assert second.startswith("No command is recorded of 2 trials.")


def test_of_data_that_changed_under_its_path_the_report_of_a_part_has_a_command():
    runs = frame(command=SWEEP, data_checksum=["e" * 64, "e" * 64, "f" * 64, "f" * 64])
    (sentence,), commands = reproduced(runs)
    assert commands == []
    assert sentence.startswith("The data changed under its path between these trials")
    (part,) = re.findall("`fnnexp report (.*)`", sentence)
    name, asked = shlex.split(part)
    assert name == "a b"
    rows = filters.where(runs, dict([asked.split("=")]))
    assert rows["trial"].tolist() == runs["trial"].tolist()[:2]
    assert reproduced(rows, [asked])[1] == [SWEEP]


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
def test_what_a_store_holds_can_do_no_harm_when_pasted(hostile):
    _, (command,) = reproduced(frame(command=hostile))
    assert shlex.split(command) == shlex.split(hostile)
    unquoted = re.sub("'[^']*'", "", command)
    assert not set(unquoted) & set(";$`|>&")


@pytest.mark.parametrize("hostile", ["rm -rf .", "", "fnnexp 'a", "fnnexp a\nreboot", "fnnexp \x1b[2J"])
def test_what_is_no_command_of_ours_is_not_printed(hostile):
    (sentence,), commands = reproduced(frame(command=hostile))
    assert commands == []
    assert sentence.startswith("No command is recorded of 4 trials.")


def test_the_section_ends_with_the_reports_own_command_and_its_files():
    there, files = {"store": " --uri 'sqlite:////c d.db'"}, ["runs.csv", "report.md"]
    for command, folder, further in [
        (COMMAND, None, []),
        (partial(COMMAND, **there), None, ["--uri", "sqlite:////c d.db"]),
        (partial(COMMAND, **there), Path("e f"), ["--uri", "sqlite:////c d.db", "--folder", "e f"]),
    ]:
        *_, code, links = provenance.section(command, ["init=he"], frame(), files, folder).blocks
        assert shlex.split(code.text) == ["fnnexp", "report", "a b", "init=he", *further]
        assert links.files == files


@pytest.mark.parametrize(
    "text",
    ["a b", "it's", "c:\\d\\", "a\\'b", "null", "1e5", "[1,", "x,y", "a=b", "ü", "007", ".5", "~/x.npz"],
)
def test_a_text_comes_back_from_hydra_as_it_was(text, jobs_of):
    (job,) = jobs_of(f"data.path={quoted(text)}")
    assert job.config.data.path == text


def test_the_default_options_are_what_hydra_composes(jobs_of):
    (job,) = jobs_of()
    assert default_options() == {group: job.choices[group] for group in CHOICES}


def test_what_it_ran_with_is_told_with_how_many_where_it_differs():
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


@pytest.mark.parametrize("module", [api, schema, provenance])
def test_the_examples_run(module):
    assert doctest.testmod(module).failed == 0
