"""The commands. A first argument that is a bare word is one of these; anything else is Hydra's."""

from __future__ import annotations

import argparse
import atexit
import gc
import os
import re
import sys
from collections.abc import Callable, Sequence

from fnnexp import __version__
from fnnexp.errors import FnnexpError, did_you_mean

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

WITH_VALUE = re.compile(r"-(cn|cp|cd|c|p|i|-config-name|-config-path|-config-dir|-cfg|-package|-info)")
COMPLETION = ("-sc", "--shell-completion", "--shell_completion")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status.

    0 when all went well, 1 when a trial failed, 2 when the input was bad and nothing was trained, 130 after
    Ctrl-C.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    atexit.register(gc.freeze)  # the system takes all memory back; to look through it first takes .7 s
    try:
        if words and words[0] in ("-h", "--help", "help"):
            print(HELP, end="")
        elif words and words[0] == "--version":
            print(f"fnnexp {__version__}")
        elif words and _is_command(words[0]):
            return _command(words[0])(words[1:])
        else:
            _hydra(words)
    except FnnexpError as error:
        print(f"fnnexp: {error}", file=sys.stderr)
        return int(getattr(error, "exit_status", 2))
    except KeyboardInterrupt:
        print("fnnexp: interrupted", file=sys.stderr)
        return 130
    return 0


def _is_command(word: str) -> bool:
    return re.fullmatch(r"[A-Za-z][\w-]*", word) is not None


def _command(word: str) -> Callable[[Sequence[str]], int]:
    if word not in COMMANDS:
        raise FnnexpError(
            f"there is no command '{word}'; there are {', '.join(COMMANDS)}.{did_you_mean(word, COMMANDS)} "
            "An override has an equals sign, as in arch=tanh_128; `fnnexp --help` shows examples"
        )
    return COMMANDS[word]


def _hydra(words: Sequence[str]) -> None:
    """Run Hydra's application; its complaints about the input become ours."""
    wants_traces = os.environ.get("HYDRA_FULL_ERROR") == "1"
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra then raises what it would print
    from omegaconf.errors import OmegaConfBaseException

    from fnnexp import app
    from fnnexp.config.messages import explain

    sys.argv = [sys.argv[0], *overrides_last(words)]
    gc.disable()  # until the store is open: all that start-up makes lives on
    try:
        app.main(words)
    except app.Raised as raised:
        if wants_traces or not isinstance(raised.error, OmegaConfBaseException):
            raise raised.error from raised.error.__cause__
        raise FnnexpError(explain(raised.error)) from raised.error
    except FnnexpError:
        raise
    except Exception as error:  # whatever Hydra fails with while it composes, it is the input's doing
        if wants_traces:
            raise
        raise FnnexpError(explain(error)) from error


def overrides_last(words: Sequence[str]) -> list[str]:
    """Put overrides behind flags: Hydra's parser takes ``a=1 -cn grid`` but not ``a=1 -cn grid b=2``.

    >>> overrides_last(["dry_run=true", "-cn", "card_grid", "seed=1"])
    ['-cn', 'card_grid', 'dry_run=true', 'seed=1']
    """
    if any(word in COMPLETION for word in words):
        return list(words)
    flags: list[str] = []
    overrides: list[str] = []
    value_of_flag = False
    for word in words:
        if value_of_flag or word.startswith("-"):
            flags.append(word)
        else:
            overrides.append(word)
        value_of_flag = not value_of_flag and WITH_VALUE.fullmatch(word) is not None
    return flags + overrides


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
    parser.add_argument("--folder", help="where the page and its files go (default: reports/EXPERIMENT)")
    parser.add_argument("--uri", help="MLflow's store (default: MLFLOW_TRACKING_URI or MLflow's default)")
    given = parser.parse_args(words)
    wrong = [word for word in given.where if not re.fullmatch(r"[^=]+=.+", word)]
    if wrong:
        raise FnnexpError(
            f"'{wrong[0]}': one experiment is reported at a time, and of it the trials with KEY=VALUE; write "
            f"fnnexp report {given.experiment} arch=tanh_128 batching=mini"
        )
    from fnnexp.reporting import tables as report

    where = dict(word.split("=", 1) for word in given.where)
    report.write(given.experiment, given.folder, where=where, tracking_uri=given.uri)
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
    from fnnexp.reporting.replication import run as reproduce

    reproduce.run(quick=given.quick, engine=given.engine, folder=given.folder, uri=given.uri)
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
    from rich.console import Console
    from rich.table import Table

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
    Console().print(table)
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
