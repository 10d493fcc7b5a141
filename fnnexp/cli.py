"""The command line: if the first word has no `=`, it names a command, as in `fnnexp report`; else, train."""

from __future__ import annotations

import argparse
import atexit
import gc
import io
import math
import os
import re
import shlex
import sys
import time
from collections.abc import Callable, Sequence
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fnnexp import __version__
from fnnexp.console import ENCODE_ERRORS, print_plain
from fnnexp.errors import FnnexpError, did_you_mean

if TYPE_CHECKING:
    from fnnexp.config.commands import Command

HELP = """\
fnnexp: which small neural network works, and why

Train
  fnnexp                                  one trial with the defaults, on MNIST
  fnnexp data=digits                      the same on digits; nothing to download
  fnnexp arch=tanh_128 init=he optimizer.lr=0.1 epochs=10 seed=3
                                          your choices, from the list below
  fnnexp -m init=max,xavier,he seed=0,1,2
                                          a sweep: all nine combinations
  fnnexp -cn card_grid                    a sweep from sweeps/card_grid.yaml
  fnnexp -cn card_grid epochs=1           the same, with a value replaced
  fnnexp data=files data.path=my.npz      your own data
  fnnexp -cn card_grid until=settled budget=10m
                                          as many seeds as the answer needs
  fnnexp -m compare=init tune=optimizer.lr
                                          which is best, each at its own rate?
  fnnexp dry_run=true -cn card_grid       show what would run; train nothing
  The same command again resumes: finished trials do not run again.
  With more epochs, they go on where they ended, if the schedule allows it.

Look before you train
  fnnexp data my.npz                      classes, values, duplicates, sixteen rows
  fnnexp data my.csv data.label=species   the same of a table; or of digits, moons, ...

Compare
  fnnexp report                           list the experiments
  fnnexp report card_grid                 what is best, and is that certain?
  fnnexp report card_grid arch=tanh_128 batching=mini
                                          the same for some of the trials
  fnnexp report card_grid --handout       also one page to print and hand out
  fnnexp report mnist                     trials of commands without -cn are in an
                                          experiment named after their data
  fnnexp ui                               the curves in MLflow's UI

Map two numbers
  fnnexp map x=optimizer.lr:1e-3..10:64 y=init.gain:0.1..10:64 data=digits epochs=1
                                          64 x 64 trials as one run, with a picture
  fnnexp map x=optimizer.lr:1e-3..10:64 y=init.gain:0.1..10:64 data=digits epochs=1 zoom=32..48,8..24 finer=4
                                          some of the cells, each divided into 4 x 4
  fnnexp map x=optimizer.lr:1e-3..10:64 y=init.gain:0.1..10:64 data=digits epochs=1 cell=12,40
                                          one cell as an ordinary trial

Find a learning rate
  fnnexp lr arch=relu_100,tanh_128 init=he,xavier   suggests one for each network, by a range test

More
  fnnexp arch.hidden=[64,32] arch.activation=tanh   any depth and widths
  fnnexp -cn card_grid 'seed=range(5)'              five seeds
  fnnexp -m init=max,he epochs=5,3 'zip=[[init,epochs]]'   not every combination; see docs/grids.md
  fnnexp -m experiment=relu_full_batch seed=0,1     a published experiment
  fnnexp --pieces my_pieces.py -m init=mine,he      an initializer of your own; see docs/pieces.md
  fnnexp report card_grid --metric val_loss         rank by another metric; or by seconds_to_0.95
  fnnexp reproduce                                  train the published experiments; compare tables
  fnnexp reproduce nielsen_30 glorot_bengio         some of them
  fnnexp reproduce --quick                          the same with fewer seeds, in under two minutes
  fnnexp reproduce --engine numpy                   the same with NumPy, also where numba is installed
  fnnexp gradcheck                                  compare every gradient with finite differences
  fnnexp merge A.db B.db --into all.db              the trials of several machines in one store, each once
  fnnexp verify card_grid --sample 5                train five trials again; are they bitwise the same?
  fnnexp clean                                      what sweeps left behind, and what removes it
"""

CHOICES = Path(__file__).with_name("choices.txt")
"""The file with the part of the help that lists all choices. ``make reference`` writes it."""

HYDRA_HELP = """\
Hydra       -m  -cn NAME  -cd FOLDER  --cfg job  --info  --hydra-help
            shell completion: eval "$(fnnexp -sc install=bash)"
            fnnexp COMMAND --help   fnnexp --version
"""

HYDRA_FLAGS = ("--info", "-i", "--hydra-help", "--shell-completion", "--shell_completion", "-sc")
"""Flags that Hydra handles itself."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit status.

    The status is 0 after success, 1 if a trial failed, 2 if the input was bad and nothing was trained, and
    130 after Ctrl-C.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    _open_streams()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=ENCODE_ERRORS)
    # Figures go to files, and importing Matplotlib fails if the user's MPLBACKEND is not installed.
    os.environ["MPLBACKEND"] = "agg"
    gc.set_threshold(100_000, 20, 100)  # MLflow and 1,000 runs create a million objects that stay alive
    atexit.register(gc.freeze)  # skip the collection at exit: it takes 0.7 s, and the system frees all memory
    text = _about(words)
    status = 0 if text else _run(words)
    try:
        print(text, end="", flush=True)
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what Python flushes at its end
        if not isinstance(error, BrokenPipeError):
            print(f"fnnexp: the output can't be written: {error.strerror}", file=sys.stderr)
        return 1
    return status


def _about(words: Sequence[str]) -> str:
    """Return the help on all commands or the version, whichever these words ask for, else ""."""
    first = words[0] if words else ""
    if first == "help" or (not _is_command(first) and {"-h", "--help"} & set(words)):
        return "\n".join((HELP, CHOICES.read_text("utf-8"), HYDRA_HELP))
    if not _is_command(first) and "--version" in words:
        return f"fnnexp {__version__}\n"
    return ""


def _run(words: Sequence[str]) -> int:
    """Run the command with these words, print its errors, and return the exit status."""
    try:
        if words and _is_command(words[0]):
            return _command_named(words[0])(words[1:])
        if any(word.partition("=")[0] in HYDRA_FLAGS for word in words):
            _run_hydra(words)
        else:
            _train(words)
    except FnnexpError as error:
        print(f"fnnexp: {error}", file=sys.stderr)
        return int(getattr(error, "exit_status", 2))
    except KeyboardInterrupt:
        print("fnnexp: interrupted", file=sys.stderr)
        return 130
    except Warning as error:  # raised under PYTHONWARNINGS=error
        print(f"fnnexp: a warning was raised as an error: {type(error).__name__}: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:  # the reader of the output has ended, as after `| head`
        return 1
    return 0


def _open_streams() -> None:
    """Open closed standard streams on the null device.

    Otherwise a file that is opened later would get the stream's descriptor, and workers would print into it.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            stream = os.fdopen(os.open(os.devnull, os.O_RDWR), mode, encoding="utf-8")
            os.set_inheritable(stream.fileno(), True)
            setattr(sys, name, stream)


def _is_command(word: str) -> bool:
    return re.fullmatch(r"[A-Za-z][\w-]*", word) is not None


def _command_named(word: str) -> Callable[[Sequence[str]], int]:
    if word in COMMANDS:
        return COMMANDS[word]
    from fnnexp.config.messages import what_to_write

    raise FnnexpError(
        f"there is no command '{word}'; the commands are {', '.join(COMMANDS)}."
        f"{did_you_mean(word, COMMANDS)} To train, {what_to_write(word)}; `fnnexp --help` shows examples"
    )


class _Parser(argparse.ArgumentParser):
    """A parser that refuses an unknown option with the options that there are, and the most similar one."""

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        self._refuse_unknown(args)
        return super().parse_args(args, namespace)

    def parse_intermixed_args(self, args: Any = None, namespace: Any = None) -> Any:
        self._refuse_unknown(args)
        return super().parse_intermixed_args(args, namespace)

    def _refuse_unknown(self, words: Sequence[str]) -> None:
        options = [
            name
            for action in self._actions
            if action.help != argparse.SUPPRESS
            for name in action.option_strings
            if name.startswith("--")
        ]
        known = [name for action in self._actions for name in action.option_strings]
        for word in takewhile(lambda word: word != "--", words):
            given = re.fullmatch(r"(--[\w-]+)(=\S*)?", word)  # a word with a space is a value, not an option
            if given is None or given[1] in known:
                continue
            if self.allow_abbrev and any(name.startswith(given[1]) for name in known):
                continue
            raise FnnexpError(
                f"{given[1]}: `{self.prog}` has no such option; its options are {', '.join(options)}."
                f"{did_you_mean(given[1], options)}"
            )


def _parser() -> argparse.ArgumentParser:
    """Return the parser of a training command: KEY=VALUE overrides, and flags with the names of Hydra's."""
    parser = _Parser("fnnexp", add_help=False, allow_abbrev=False)
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE")
    parser.add_argument("--multirun", "-m", action="store_true", help="run every combination of values")
    parser.add_argument(
        "--config-name", "-cn", default="config", help="the file of a grid, in sweeps/ or your own"
    )
    parser.add_argument("--config-dir", "-cd", metavar="FOLDER", help="a folder with your own configs")
    parser.add_argument("--config-path", "-cp", help=argparse.SUPPRESS)
    parser.add_argument("--pieces", action="append", default=[], metavar="FILE", help="your own pieces")
    parser.add_argument("--cfg", "-c", choices=("job", "hydra", "all"), help="show the composed config")
    parser.add_argument(
        "--resolve", action="store_true", help="with --cfg: replace references by their values"
    )
    parser.add_argument("--package", "-p", help="with --cfg: only this part of the config")
    return parser


def _training_command(arguments: argparse.Namespace) -> Command:
    """Return the command to train, from flags and overrides in any order."""
    from fnnexp.config.commands import Command

    if arguments.config_path is not None:
        raise FnnexpError(
            f"--config-path {arguments.config_path}: fnnexp reads configs from its own folders and from the "
            "folder of --config-dir; write -cd FOLDER"
        )
    return Command(
        arguments.config_name,
        tuple(arguments.overrides),
        _existing_folder(arguments.config_dir),
        arguments.multirun,
        tuple(arguments.pieces),
    )


def _existing_folder(name: str | None) -> Path | None:
    """Return the folder of ``-cd``; raise if it does not exist."""
    folder = None if name is None else Path(name)
    if folder is not None and not folder.is_dir():
        raise FnnexpError(f"-cd {folder}: this folder does not exist; write -cd and the path of a folder")
    return folder


def _train(words: Sequence[str]) -> None:
    """Run the words of a training command: train its trials, or show its plan or its config.

    ``dry_run=true`` shows the plan, ``--cfg`` the config.
    """
    began = time.monotonic()
    arguments = _parser().parse_intermixed_args(words)
    if arguments.resolve and arguments.cfg is None:
        raise FnnexpError("--resolve: needs --cfg; write --cfg job --resolve")
    gc.disable()  # objects created before the sweep starts stay alive, so collections would free nothing
    from fnnexp.config import compose

    command = _training_command(arguments)
    if arguments.cfg is not None:
        print(
            compose.show(command, arguments.cfg, package=arguments.package, resolve=arguments.resolve), end=""
        )
        return
    _train_command(command, began)


def _train_command(command: Command, began: float | None = None) -> None:
    """Run the trials of a command; with dry_run=true show what would run."""
    from fnnexp import api
    from fnnexp.config.commands import program, report_command
    from fnnexp.tracking.store import option

    console = api.new_console()

    def print_what_to_do_next(page: str | None) -> None:
        store = option(requested.tracking_uri)
        with_pieces = "".join(f" --pieces {shlex.quote(file)}" for file in command.pieces)
        report = report_command(requested.experiment, store=store + with_pieces, program=program())
        lines = f"compare them: {report}\nlook at them: {page or f'{program()} ui{store}'}"
        print_plain(console, lines)

    with api.composed(command, console, dry_run_measures=True) as requested:
        api.print_notes(requested, console)
        if requested.dry_run:
            from fnnexp.sweeping.search.ahead import planned_first
            from fnnexp.sweeping.terminal.dry_run import show

            trials, notes, ahead = planned_first(requested)
            for note in notes:
                print_plain(console, note)
            show(
                trials,
                requested.experiment,
                requested.tracking_uri,
                requested.execution,
                console,
                ahead=ahead,
                began=began,
            )
            return
        gc.freeze()
        gc.enable()
        try:
            outcome = api.train(requested, console, began=began)
        except api.InterruptedSweepError:
            print_what_to_do_next(None)
            raise
    print_what_to_do_next(outcome.page)
    api.refuse_failures(outcome, len(outcome.ids))


def _run_hydra(words: Sequence[str]) -> None:
    """Let Hydra handle ``--info``, ``--hydra-help`` and shell completion."""
    from dataclasses import replace

    from fnnexp.config import compose

    parser = _parser()
    parser.add_argument("--info", "-i", nargs="?")
    parser.add_argument("--hydra-help", action="store_true")
    parser.add_argument("--shell-completion", "--shell_completion", "-sc", action="store_true")
    arguments = parser.parse_intermixed_args(words)
    command = _training_command(arguments)
    # After -sc the words are arguments of Hydra's completion, as in install=bash, not overrides.
    compose.let_hydra_answer(replace(command, overrides=()) if arguments.shell_completion else command)


def _report(words: Sequence[str]) -> int:
    parser = _Parser(
        "fnnexp report", description="Compare the trials of a sweep; without a name, list the experiments."
    )
    parser.add_argument("experiment", nargs="?", help="the sweep's name, as in card_grid")
    parser.add_argument(
        "where",
        nargs="*",
        default=[],  # without a default the usage shows it as required
        metavar="KEY=VALUE",
        help="only trials with these options, as in arch=tanh_128",
    )
    parser.add_argument(
        "--metric", help="the metric that ranks: val_accuracy, val_loss, test_accuracy, …, seconds_to_0.95"
    )
    parser.add_argument(
        "--margin",
        type=float,
        help="the largest difference that does not matter, in percentage points (default: 0.2)",
    )
    parser.add_argument(
        "--compare",
        metavar="FACTORS",
        help="the factors whose options the answer compares first, as in init or init,arch (default: what "
        "until=settled asked)",
    )
    parser.add_argument(
        "--handout",
        action="store_const",
        const=True,
        help="also write handout.html: the answer, a figure, a table and how it was run, on one printed page",
    )
    parser.add_argument(
        "--title", metavar="TEXT", help="the title of the page and the handout (default: the sweep's name)"
    )
    parser.add_argument("--folder", help="folder of the page and its files (default: reports/EXPERIMENT)")
    parser.add_argument("--uri", help="MLflow's store (default: MLFLOW_TRACKING_URI or MLflow's default)")
    # After `--` a name may begin with a dash, but parse_intermixed_args would read that name as an option.
    options = list(words[: words.index("--")] if "--" in words else words)
    parser.add_argument(
        "--pieces", action="append", default=[], metavar="FILE", help="a file with your own pieces"
    )
    arguments = parser.parse_intermixed_args(options)
    names = [arguments.experiment, *arguments.where] if arguments.experiment is not None else []
    arguments.experiment, *arguments.where = [*names, *words[len(options) + 1 :]] or [None]
    if arguments.experiment is None:
        return _list_experiments(arguments)

    compare = [name for name in (arguments.compare or "").split(",") if name]
    if arguments.compare is not None and not compare:
        raise FnnexpError(f"--compare {arguments.compare!r}: names no factor; write --compare init")

    def command(*where: str) -> str:
        from fnnexp.config.commands import program, ranking_options, report_command
        from fnnexp.tracking.store import option

        ranked = ranking_options(arguments.metric, arguments.margin, compare)
        return report_command(
            arguments.experiment,
            where,
            store=option(arguments.uri),
            ranked=ranked,
            handout=bool(arguments.handout),
            title=arguments.title,
            program=program(),
        )

    invalid = [word for word in arguments.where if not re.fullmatch(r"[^=]+=.+", word)]
    if len(invalid) == 1 and "=" in arguments.experiment:
        where = [arguments.experiment, *(word for word in arguments.where if word != invalid[0])]
        arguments.experiment = invalid[0]
        raise FnnexpError(f"{where[0]}: the name of the experiment comes first; write {command(*where)}")
    if invalid:
        raise FnnexpError(
            f"'{invalid[0]}': after the name of one experiment, only KEY=VALUE may follow; write "
            f"{command('arch=tanh_128', 'batching=mini')}"
        )
    selection: dict[str, str] = {}
    for word in arguments.where:
        key, _, values = word.partition("=")
        if selection.setdefault(key, values) != values:
            both = command(f"{key}={selection[key]},{values}")
            raise FnnexpError(f"{key} is given twice, as {selection[key]} and {values}; write {both}")
    from fnnexp.pieces import files
    from fnnexp.reporting.write import write

    files.load_installed()
    for file in arguments.pieces:
        files.load(file)
    write(
        arguments.experiment,
        arguments.folder,
        where=selection,
        metric=arguments.metric,
        margin=arguments.margin,
        compare=compare,
        handout=bool(arguments.handout),
        title=arguments.title,
        tracking_uri=arguments.uri,
    )
    return 0


def _list_experiments(arguments: argparse.Namespace) -> int:
    """Print a table of the experiments in the store. Refuse options that need the name of an experiment."""
    from fnnexp import api
    from fnnexp.config.commands import program
    from fnnexp.reporting import listing

    unusable = [
        f"--{name}"
        for name in ("metric", "margin", "compare", "handout", "title", "folder")
        if getattr(arguments, name) is not None
    ]
    if unusable:
        raise FnnexpError(
            f"{unusable[0]}: needs an experiment; write {program()} report NAME {unusable[0]} …; "
            f"{program()} report lists the names"
        )
    listing.show(arguments.uri, api.new_console())
    return 0


def _reproduce(words: Sequence[str]) -> int:
    parser = _Parser(
        "fnnexp reproduce",
        description="Train the published experiments and compare the results with the published numbers.",
    )
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help="a published experiment, such as nielsen_30 (default: all)"
    )
    parser.add_argument(
        "--quick", action="store_true", help="use fewer seeds and epochs; takes under two minutes"
    )
    parser.add_argument(
        "--engine",
        default="auto",
        help="numpy; numba, which is faster; auto (default): numba if installed",
    )
    parser.add_argument("--folder", help="folder of the page and its files (default: reports/reproduce)")
    parser.add_argument("--uri", help="MLflow's store (default: MLFLOW_TRACKING_URI or MLflow's default)")
    arguments = parser.parse_args(words)
    from fnnexp import api

    api.reproduce(
        arguments.names,
        quick=arguments.quick,
        engine=arguments.engine,
        folder=arguments.folder,
        uri=arguments.uri,
    )
    return 0


def _gradcheck(words: Sequence[str]) -> int:
    parser = _Parser("fnnexp gradcheck", description="Compare gradients with finite differences.")
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help="an operation or an architecture (default: all)"
    )
    arguments = parser.parse_args(words)
    return _show_gradients(arguments.names)


def _show_gradients(names: Sequence[str]) -> int:
    """Print the checks of derivatives by finite differences; return 1 if one fails, else 0.

    `names` are the pieces to check; without names, all are checked. The published derivative of tanh is
    wrong, so its check fails. This failure sets the status 1 only when the check is named.
    """
    from rich.table import Table

    from fnnexp.console import terminal
    from fnnexp.nn.testing import gradcheck

    try:
        checks = gradcheck.run(list(names) or None)
    except ValueError as error:
        raise FnnexpError(str(error)) from error
    table = Table(
        "gradient", "largest relative error", "allowed", "", box=None, pad_edge=False, header_style="bold"
    )
    failed = 0
    for check in checks:
        expected = check.name in gradcheck.KNOWN_WRONG and not names
        failed += not check.passed and not expected
        verdict = "[green]ok[/]" if check.passed else "[red]FAILED[/]"
        if not check.passed and check.name in gradcheck.KNOWN_WRONG:
            verdict += " as expected: the published derivative applies tanh twice"
        table.add_row(check.name, f"{check.max_relative_error:.1e}", f"{check.tolerance:.0e}", verdict)
    terminal().print(table)
    return 1 if failed else 0


def _clean(words: Sequence[str]) -> int:
    """List what fnnexp left behind; with --yes remove it. Return 1 if something can't be removed, else 0."""
    from rich.markup import escape
    from rich.table import Table

    from fnnexp.config.commands import program
    from fnnexp.console import terminal
    from fnnexp.sweeping.resources import leftovers
    from fnnexp.sweeping.resources.memory import size
    from fnnexp.tracking.store import option

    parser = _Parser(
        "fnnexp clean",
        description="List what fnnexp left behind in this folder and in its cache, and remove it with --yes. "
        "Results are never removed: stores, their artifacts, reports.",
    )
    parser.add_argument(
        "kinds", nargs="*", metavar="KIND", help=f"{', '.join(leftovers.KINDS)} (default: all)"
    )
    parser.add_argument("--yes", action="store_true", help="remove it")
    parser.add_argument("--uri", help="MLflow's store (default: MLFLOW_TRACKING_URI or MLflow's default)")
    arguments = parser.parse_intermixed_args(words)
    for kind in arguments.kinds:
        if kind not in leftovers.KINDS:
            raise FnnexpError(
                f"there is no kind '{kind}' to clean; the kinds are {', '.join(leftovers.KINDS)}."
                f"{did_you_mean(kind, leftovers.KINDS)}"
            )
    listed = leftovers.find(dict.fromkeys(arguments.kinds or leftovers.KINDS), arguments.uri)
    table = Table(
        "kind", "files", "size", "if removed", "where", box=None, pad_edge=False, header_style="bold"
    )
    table.columns[-1].overflow = "fold"
    for left in listed:
        after = "stays: a sweep is running" if left.in_use else leftovers.KINDS[left.kind][0]
        table.add_row(left.kind, str(len(left.files)), size(left.size), after, escape(str(left.place)))
    console = terminal()
    if listed:
        console.print(table)
    removable = [left for left in listed if not left.in_use]
    total = size(sum(left.size for left in removable))
    errors = leftovers.remove(removable) if arguments.yes else []
    if not removable:
        console.print("nothing to remove", highlight=False)
    elif arguments.yes:
        print_plain(console, "\n".join(errors) or f"removed {total}")
    else:
        command = " ".join(["clean", *dict.fromkeys(arguments.kinds), "--yes"])
        print_plain(
            console, f"nothing was removed; to remove {total}: {program()} {command}{option(arguments.uri)}"
        )
    return 1 if errors else 0


def _ui(words: Sequence[str]) -> int:
    parser = _Parser(
        "fnnexp ui",
        description="Show the runs in MLflow's UI. Only this machine can reach it, unless you set --host.",
    )
    parser.add_argument("--port", type=int, default=5000)
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        help="an address that other machines can reach; their users can then change and delete every run",
    )
    parser.add_argument("--uri", help="MLflow's store (default: MLFLOW_TRACKING_URI or MLflow's default)")
    arguments = parser.parse_args(words)
    from fnnexp.tracking.ui import serve

    return serve(arguments.port, arguments.uri, arguments.host)


def _data(words: Sequence[str]) -> int:
    parser = _Parser(
        "fnnexp data",
        usage="fnnexp data PATH|NAME [KEY=VALUE ...] [--pieces FILE] [-cd FOLDER]",
        description="Show a data set as a trial would have it: rows by class and split, values and scaling, "
        "constant inputs, duplicates, and sixteen images or the like. Nothing trains, and no store is made.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "words", nargs="+", metavar="PATH|NAME", help="a file, a folder or a data set such as digits"
    )
    parser.add_argument("--config-dir", "-cd", metavar="FOLDER", help="a folder with your own configs")
    parser.add_argument("--pieces", action="append", default=[], metavar="FILE", help="your own pieces")
    arguments = parser.parse_intermixed_args(words)
    from fnnexp import api
    from fnnexp.config.commands import Command
    from fnnexp.console import while_doing

    first, *overrides = arguments.words
    if extra := [word for word in overrides if "=" not in word]:
        raise FnnexpError(
            f"'{extra[0]}': after a data set, only KEY=VALUE may follow; write a command for each data set, "
            f"and options as in fnnexp data {shlex.quote(first)} data.validation=200"
        )
    folder, console = _existing_folder(arguments.config_dir), api.new_console()
    with while_doing("reading the data", console):
        given = Command(
            overrides=tuple(overrides), config_dir=folder, multirun=True, pieces=tuple(arguments.pieces)
        )
        shown = api.data_set(first, given)
    print_plain(console, str(shown))
    return 0


def _map(words: Sequence[str]) -> int:
    """Train a network for each cell (pair of values) of two axes, or with ``cell=I,J`` that of one cell."""
    parser = _Parser(
        "fnnexp map",
        usage="fnnexp map x=KEY:LOW..HIGH:N y=KEY:LOW..HIGH:N [zoom=I0..I1,J0..J1] [finer=K] [cell=I,J] "
        "[KEY=VALUE ...] [--pieces FILE] [-cd FOLDER]",
        description="Train one trial for each cell of two numeric axes, and keep them as one run. An axis is "
        "logarithmic if HIGH/LOW is 100 or more; :log or :linear after it says which. zoom= trains a part of "
        "the cells, finer= divides each cell into K x K, and cell= trains one cell as an ordinary trial.",
        allow_abbrev=False,
    )
    parser.add_argument("words", nargs="*", metavar="KEY=VALUE", help="the axes, and what all cells share")
    parser.add_argument("--config-dir", "-cd", metavar="FOLDER", help="a folder with your own configs")
    parser.add_argument("--pieces", action="append", default=[], metavar="FILE", help="your own pieces")
    arguments = parser.parse_intermixed_args(words)
    began = time.monotonic()
    gc.disable()  # objects created before the map starts stay alive, so collections would free nothing
    from fnnexp import api
    from fnnexp.config.commands import Command
    from fnnexp.mapping import request

    folder = _existing_folder(arguments.config_dir)
    console = api.new_console()
    given = Command(overrides=tuple(arguments.words), config_dir=folder, pieces=tuple(arguments.pieces))
    wanted = request.parse(given)
    if wanted.cell is not None:
        from fnnexp.mapping.command import of_cell

        trial = of_cell(wanted)
        print_plain(console, f"this cell: {trial.pasted()}")
        _train_command(trial)
        return 0
    with api.composed(wanted.command, console, dry_run_measures=True) as sweep:
        from fnnexp.mapping import command  # not at the top: the workers start meanwhile

        api.print_notes(sweep, console)
        gc.freeze()
        gc.enable()
        command.run(wanted, sweep, console, since=began)
    return 0


def _lr(words: Sequence[str]) -> int:
    """Suggest a learning rate for each configuration of a sweep."""
    parser = _Parser(
        "fnnexp lr",
        usage="fnnexp lr [-cn GRID] [range=LOW..HIGH] [KEY=VALUE[,VALUE ...] ...] [--pieces FILE] "
        "[-cd FOLDER]",
        description="A learning-rate range test (Smith 2017): train each configuration once while its "
        "learning rate rises, and suggest a rate by the loss. Without range= the rates lie around the "
        "default of the optimizer.",
        allow_abbrev=False,
    )
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="as for a sweep")
    parser.add_argument("--multirun", "-m", action="store_true", help="as for a sweep; changes nothing")
    parser.add_argument("--config-name", "-cn", default="config", help="the file of a grid")
    parser.add_argument("--config-dir", "-cd", metavar="FOLDER", help="a folder with your own configs")
    parser.add_argument("--config-path", "-cp", help=argparse.SUPPRESS)
    parser.add_argument("--pieces", action="append", default=[], metavar="FILE", help="your own pieces")
    arguments = parser.parse_intermixed_args(words)
    from fnnexp import api

    api.range_test(_training_command(arguments), api.new_console())
    return 0


def _merge(words: Sequence[str]) -> int:
    parser = _Parser(
        "fnnexp merge",
        description="Copy the finished trials of several SQLite stores into one, each once.",
    )
    parser.add_argument(
        "stores",
        nargs="+",
        metavar="STORE",
        help="the file of a store, as in laptop/mlflow.db, or its folder",
    )
    parser.add_argument(
        "--into", required=True, metavar="STORE", help="the store to copy to; made if missing"
    )
    arguments = parser.parse_intermixed_args(words)
    from fnnexp.config.commands import program, report_command
    from fnnexp.console import terminal
    from fnnexp.errors import plural
    from fnnexp.sweeping.resources.merging import DIFFERS, MOST_SHOWN, RESULTS, address_of, merge
    from fnnexp.tracking.store import option

    merged = merge(*arguments.stores, into=arguments.into)
    lines = []
    for given in arguments.stores:
        counts = merged[merged["store"] == given]["result"].value_counts()
        parts = [f"{counts[result]} {result}" for result in RESULTS if counts[result]]
        lines.append(f"{given}: {', '.join(parts) or 'no trials'}")
        notes = merged[(merged["store"] == given) & (merged["result"] != DIFFERS)]["note"]
        lines += [
            f"  {plural(count, 'trial')}: {note}" for note, count in notes.value_counts().items() if note
        ]
    differing = merged[merged["result"] == DIFFERS]
    for row in differing.head(MOST_SHOWN).itertuples():
        lines.append(f"  {row.name} in {row.store} differs: {row.note}")
    if len(differing) > MOST_SHOWN:
        lines.append(f"  … and {len(differing) - MOST_SHOWN} more")
    for name in merged["experiment"].unique():
        command = report_command(name, store=option(address_of(arguments.into)), program=program())
        lines.append(f"compare them: {command}")
    print_plain(terminal(), "\n".join(lines))
    return 0


def _verify(words: Sequence[str]) -> int:
    parser = _Parser(
        "fnnexp verify",
        description="Train a random sample of an experiment's finished trials again, and compare their "
        "numbers with those in the store. The status is 1 if one differs that should be the same to the last "
        "bit.",
    )
    parser.add_argument("experiment", help="the sweep's name, as in card_grid")
    parser.add_argument("--sample", type=int, default=5, metavar="N", help="how many trials (default: 5)")
    parser.add_argument("--seed", type=int, help="the seed of the sample (default: another sample each time)")
    parser.add_argument("--uri", help="MLflow's store (default: MLFLOW_TRACKING_URI or MLflow's default)")
    parser.add_argument(
        "--pieces", action="append", default=[], metavar="FILE", help="a file with your own pieces"
    )
    arguments = parser.parse_args(words)
    from fnnexp.console import terminal
    from fnnexp.pieces import files
    from fnnexp.results.networks.verifying import BITWISE, DIFFERS, RESULTS, verify

    files.load_installed()
    for file in arguments.pieces:
        files.load(file)
    verified = verify(
        arguments.experiment, sample=arguments.sample, seed=arguments.seed, tracking_uri=arguments.uri
    )
    lines = []
    for row in verified.to_dict("records"):
        line, difference = f"{row['name']}: {row['result']}", row["difference"]
        if row["result"] != BITWISE:
            by = "" if math.isnan(difference) else f", accuracies by at most {100 * difference:.2f} points"
            line += f"{by} ({row['note']})"
        lines.append(line)
    counts = verified["result"].value_counts()
    lines.append(", ".join(f"{counts[result]} {result}" for result in RESULTS if counts[result]))
    print_plain(terminal(), "\n".join(lines))
    return 1 if counts[DIFFERS] else 0


COMMANDS: dict[str, Callable[[Sequence[str]], int]] = {
    "data": _data,
    "report": _report,
    "map": _map,
    "reproduce": _reproduce,
    "gradcheck": _gradcheck,
    "ui": _ui,
    "clean": _clean,
    "verify": _verify,
    "lr": _lr,
    "merge": _merge,
}

if __name__ == "__main__":
    sys.exit(main())
