"""The command line. A first argument that is a bare word is a command; anything else is what to train."""

from __future__ import annotations

import argparse
import atexit
import gc
import io
import os
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fnnexp import __version__
from fnnexp.console import LACKING
from fnnexp.errors import FnnexpError, did_you_mean

if TYPE_CHECKING:
    from fnnexp.config.commands import Command

HELP = """\
fnnexp: which small neural network works, and why

Train
  fnnexp                                            one trial with the defaults
  fnnexp arch=tanh_128 init=he batching=mini optimizer.lr=0.1 epochs=10 seed=3
                                                    one trial, your choices
  fnnexp arch.hidden=[64,32] arch.activation=tanh   any depth and widths
  fnnexp -m arch=relu_100,tanh_128 init=max,sqrtmax,xavier,he seed=0,1,2
                                                    a grid: every combination
  fnnexp -cn card_grid                              a grid from a file (sweeps/card_grid.yaml)
  fnnexp -cn card_grid epochs=1 'seed=range(5)'     the same, any key of it replaced
  fnnexp -m experiment=relu_full_batch seed=0,1     a published experiment
  fnnexp dry_run=true -cn card_grid                 what would run; trains nothing
  The same command again runs only what is not finished.

Understand
  fnnexp report card_grid                           the answer; all else in reports/card_grid/
  fnnexp report card_grid arch=tanh_128 batching=mini
                                                    the same of a part: which init is best there?
  fnnexp report card_grid --metric val_loss         the same, ranked by another metric; or seconds_to_0.95
  fnnexp ui                                         MLflow's UI on the right store, for this machine alone
  fnnexp reproduce                                  the published tables, trained again and laid beside ours
  fnnexp reproduce --quick                          the same in under two minutes, with fewer seeds
  fnnexp reproduce --engine numba                   the same by the compiled engine, in two thirds of the time
  fnnexp gradcheck                                  every gradient against finite differences

Choices
  arch       relu_100  tanh_128  sigmoid_32_32  relu_98      arch.hidden=[…] arch.activation=…
  init       max  sqrtmax  xavier  he  he2  normal  glorot_normal  he_normal
  batching   full  mini  sample                              batching.size=… batching.shuffle=…
  optimizer  sgd  momentum  adam                             optimizer.lr=…
  data       mnist  digits  files                            data.path=… data.scale=unit|raw data.validation=…
  experiment relu_full_batch  tanh_mini_batch  sigmoid_per_sample  relu98_full_batch
             tanh_mini_batch_as_published  relu98_full_batch_as_listed
  and        epochs  seed  dtype=float32|float64  loss.reduction=mean|sum  loss.epsilon
             execution.n_jobs  execution.backend  execution.engine=numpy|numba  execution.max_lanes
             execution.segment_seconds  execution.address  execution.retries  execution.fail_fast
             tracking.experiment  tracking.uri

Hydra       -m  -cn NAME  -cd FOLDER  --cfg job  --info  --hydra-help
            shell completion: eval "$(fnnexp -sc install=bash)"
            fnnexp COMMAND --help   fnnexp --version
"""

HYDRAS_OWN = ("--info", "-i", "--hydra-help", "--shell-completion", "--shell_completion", "-sc")
"""The flags that Hydra answers itself, of what it knows."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status.

    0 when all went well, 1 when a trial failed, 2 when the input was bad and nothing was trained, 130 after
    Ctrl-C.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    _open_streams()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=LACKING)
    os.environ["MPLBACKEND"] = "agg"  # one that is not there would end its import; figures go to files
    gc.set_threshold(100_000, 20, 100)  # MLflow and a thousand runs are a million objects that live on
    atexit.register(gc.freeze)  # the system takes all memory back; to look through it first takes .7 s
    try:
        first = words[0] if words else ""
        if first == "help" or (not _is_command(first) and {"-h", "--help"} & set(words)):
            print(HELP, end="")
        elif not _is_command(first) and "--version" in words:
            print(f"fnnexp {__version__}")
        elif _is_command(first):
            return _command(words[0])(words[1:])
        elif any(word.partition("=")[0] in HYDRAS_OWN for word in words):
            _hydras_own(words)
        else:
            _train(words)
    except FnnexpError as error:
        print(f"fnnexp: {error}", file=sys.stderr)
        return int(getattr(error, "exit_status", 2))
    except KeyboardInterrupt:
        print("fnnexp: interrupted", file=sys.stderr)
        return 130
    except Warning as error:  # PYTHONWARNINGS=error
        print(f"fnnexp: a warning is an error here: {type(error).__name__}: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:  # nobody reads what a command prints
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return 0


def _open_streams() -> None:
    """Open those of the standard streams that are closed, on nothing.

    A file that is opened later would take their number, and what a worker process prints would go into it.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            stream = os.fdopen(os.open(os.devnull, os.O_RDWR), mode, encoding="utf-8")
            os.set_inheritable(stream.fileno(), True)
            setattr(sys, name, stream)


def _is_command(word: str) -> bool:
    return re.fullmatch(r"[A-Za-z][\w-]*", word) is not None


def _command(word: str) -> Callable[[Sequence[str]], int]:
    if word in COMMANDS:
        return COMMANDS[word]
    from fnnexp.config.messages import what_to_write

    raise FnnexpError(
        f"there is no command '{word}'; there are {', '.join(COMMANDS)}.{did_you_mean(word, COMMANDS)} To "
        f"train, {what_to_write(word)}; `fnnexp --help` shows examples"
    )


def _parser() -> argparse.ArgumentParser:
    """Return the parser of a command line that trains: overrides and the flags that Hydra's users know."""
    parser = argparse.ArgumentParser("fnnexp", add_help=False, allow_abbrev=False)
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE")
    parser.add_argument("--multirun", "-m", action="store_true", help="run every combination of values")
    parser.add_argument("--config-name", "-cn", default="config", help="a grid of sweeps/ or of your own")
    parser.add_argument("--config-dir", "-cd", metavar="FOLDER", help="a folder of configs of your own")
    parser.add_argument("--config-path", "-cp", help=argparse.SUPPRESS)
    parser.add_argument("--cfg", "-c", choices=("job", "hydra", "all"), help="show the composed config")
    parser.add_argument("--resolve", action="store_true", help="with --cfg: replace references by values")
    parser.add_argument("--package", "-p", help="with --cfg: only this part of the config")
    return parser


def _asked(given: argparse.Namespace) -> Command:
    """Return what was asked for; flags and overrides may come in any order."""
    from fnnexp.config.commands import Command

    if given.config_path is not None:
        raise FnnexpError(
            f"--config-path {given.config_path}: configs are read from fnnexp's folders and from one of your "
            "own; write -cd FOLDER"
        )
    folder = None if given.config_dir is None else Path(given.config_dir)
    if folder is not None and not folder.is_dir():
        raise FnnexpError(f"-cd {folder}: there is no such folder; write -cd FOLDER with one that is there")
    return Command(given.config_name, tuple(given.overrides), folder, given.multirun)


def _train(words: Sequence[str]) -> None:
    """Run the trials that the words name; or show what would run, or the config, where they ask for that."""
    given = _parser().parse_intermixed_args(words)
    if given.resolve and given.cfg is None:
        raise FnnexpError("--resolve goes with --cfg; write --cfg job --resolve")
    gc.disable()  # what is made until the sweep begins lives on: not to be looked through again and again
    from fnnexp import api
    from fnnexp.config import compose
    from fnnexp.config.commands import program, report_command
    from fnnexp.tracking.store import option

    command = _asked(given)
    if given.cfg is not None:
        print(compose.show(command, given.cfg, package=given.package, resolve=given.resolve), end="")
        return
    console = api.new_console()
    with api.composed(command) as asked:
        api.print_notes(asked, console)
        if asked.dry_run:
            from fnnexp.sweeping.dry_run import show

            show(asked.trials, asked.experiment, asked.tracking_uri, asked.execution, console)
            return
        gc.freeze()
        gc.enable()
        outcome = api.train(asked, console)
    store = option(asked.tracking_uri)
    compare = report_command(asked.experiment, store=store, program=program())
    lines = f"compare them: {compare}\nlook at them: {outcome.page or f'{program()} ui{store}'}"
    console.print(lines, highlight=False, soft_wrap=True, markup=False)
    api.refuse_failures(outcome, len(asked.trials))


def _hydras_own(words: Sequence[str]) -> None:
    """Let Hydra answer ``--info``, ``--hydra-help`` and shell completion."""
    from dataclasses import replace

    from fnnexp.config import compose

    parser = _parser()
    parser.add_argument("--info", "-i", nargs="?")
    parser.add_argument("--hydra-help", action="store_true")
    parser.add_argument("--shell-completion", "--shell_completion", "-sc", action="store_true")
    given = parser.parse_intermixed_args(words)
    command = _asked(given)
    # Behind -sc stand words of Hydra's own, as in install=bash.
    compose.let_hydra_answer(replace(command, overrides=()) if given.shell_completion else command)


def _report(words: Sequence[str]) -> int:
    parser = argparse.ArgumentParser("fnnexp report", description="Compare the trials of a sweep.")
    parser.add_argument("experiment", help="the sweep's name, as in card_grid")
    parser.add_argument(
        "where",
        nargs="*",
        default=[],  # else argparse says that it is required
        metavar="KEY=VALUE",
        help="only trials with these options, as in arch=tanh_128",
    )
    parser.add_argument(
        "--metric", help="what ranks: val_accuracy, val_loss, test_accuracy, …, seconds_to_0.95"
    )
    parser.add_argument(
        "--margin", type=float, help="options within it are as good: points of an accuracy (default: 0.2)"
    )
    parser.add_argument("--folder", help="where the page and its files go (default: reports/EXPERIMENT)")
    parser.add_argument("--uri", help="MLflow's store (default: MLFLOW_TRACKING_URI or MLflow's default)")
    given = parser.parse_args(words)

    def write_it(*part: str) -> str:
        from fnnexp.config.commands import program, ranking_options, report_command
        from fnnexp.tracking.store import option

        ranked = ranking_options(given.metric, given.margin)
        return report_command(
            given.experiment, part, store=option(given.uri), ranked=ranked, program=program()
        )

    wrong = [word for word in given.where if not re.fullmatch(r"[^=]+=.+", word)]
    if wrong:
        raise FnnexpError(
            f"'{wrong[0]}': one experiment is reported at a time, and of it the trials with KEY=VALUE; write "
            f"{write_it('arch=tanh_128', 'batching=mini')}"
        )
    where: dict[str, str] = {}
    for word in given.where:
        key, _, values = word.partition("=")
        if where.setdefault(key, values) != values:
            both = write_it(f"{key}={where[key]},{values}")
            raise FnnexpError(f"{key} is given twice, as {where[key]} and {values}; write {both}")
    from fnnexp.reporting.write import write

    write(
        given.experiment,
        given.folder,
        where=where,
        metric=given.metric,
        margin=given.margin,
        tracking_uri=given.uri,
    )
    return 0


def _reproduce(words: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        "fnnexp reproduce",
        description="Train the published experiments and lay their printed numbers beside.",
    )
    parser.add_argument("--quick", action="store_true", help="fewer seeds and epochs, in under two minutes")
    parser.add_argument("--engine", default="numpy", help="numpy (default) or numba, which is faster")
    parser.add_argument("--folder", help="where the page and its files go (default: reports/reproduce)")
    parser.add_argument("--uri", help="MLflow's store (default: MLFLOW_TRACKING_URI or MLflow's default)")
    given = parser.parse_args(words)
    from fnnexp import api

    api.reproduce(quick=given.quick, engine=given.engine, folder=given.folder, uri=given.uri)
    return 0


def _gradcheck(words: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        "fnnexp gradcheck", description="Compare every gradient with finite differences."
    )
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help="an operation or an architecture (default: all)"
    )
    given = parser.parse_args(words)
    return _show_gradients(given.names)


def _show_gradients(names: Sequence[str]) -> int:
    """Print the checks of these names (none: all); return 1 when one fails that is not known to be wrong.

    The derivative as published is wrong and is shown as failed. It counts when it is asked for by name.
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
            verdict += " as it must: tanh applied a second time, as published"
        table.add_row(check.name, f"{check.max_relative_error:.1e}", f"{check.tolerance:.0e}", verdict)
    terminal().print(table)
    return 1 if failed else 0


def _ui(words: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        "fnnexp ui",
        description="Show the runs in MLflow's UI, on this machine only unless --host says otherwise.",
    )
    parser.add_argument("--port", type=int, default=5000)
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        help="an address of this machine that others reach too; they may then change and delete every run",
    )
    parser.add_argument("--uri", help="MLflow's store (default: MLFLOW_TRACKING_URI or MLflow's default)")
    given = parser.parse_args(words)
    from fnnexp.tracking.ui import serve

    return serve(given.port, given.uri, given.host)


COMMANDS: dict[str, Callable[[Sequence[str]], int]] = {
    "report": _report,
    "reproduce": _reproduce,
    "gradcheck": _gradcheck,
    "ui": _ui,
}

if __name__ == "__main__":
    sys.exit(main())
