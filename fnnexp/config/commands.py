"""Commands: those that users write, and those that fnnexp prints, in the syntax of a shell."""

from __future__ import annotations

import hashlib
import re
import shlex
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fnnexp.errors import quoted as quoted  # defined there, since messages below this module need it too


def program() -> str:
    """Return how to call this fnnexp from the current shell.

    It is ``fnnexp`` if the shell finds this program by that name. Otherwise it is the path by which the
    program was called: the shell may find no fnnexp, or that of another environment.
    """
    script, on_path = Path(sys.argv[0]), shutil.which("fnnexp")
    if script.parts[-2:] == ("fnnexp", "__main__.py"):
        return "fnnexp" if on_path else f"{shlex.quote(sys.executable)} -m fnnexp"
    if script.stem != "fnnexp" or (on_path and script.exists() and script.samefile(on_path)):
        return "fnnexp"
    return shlex.quote(sys.argv[0])


def ranking_options(metric: str | None, margin: float | None, compare: Sequence[str] = ()) -> str:
    """Return the command-line options for a report's metric, margin and factors to compare.

    >>> ranking_options("val_loss", 0.5), ranking_options(None, None)
    (' --metric val_loss --margin 0.5', '')
    """
    named = "" if metric is None else f" --metric {shlex.quote(metric)}"
    named += "" if margin is None else f" --margin {margin:g}"
    return named + (f" --compare {shlex.quote(','.join(compare))}" if compare else "")


def report_command(
    experiment: str,
    where: Sequence[str] = (),
    *,
    store: str = "",
    ranked: str = "",
    folder: Path | None = None,
    handout: bool = False,
    title: str | None = None,
    program: str = "fnnexp",
) -> str:
    """Return the shell command that reports on an experiment.

    Parameters
    ----------
    experiment
        The name of the experiment.
    where
        The selection of trials, each `KEY=VALUE`.
    store
        The option for the store, from :func:`fnnexp.tracking.store.option`.
    ranked
        The options for metric, margin and factors, from :func:`ranking_options`.
    folder
        The folder of the report; None is the default folder.
    handout
        Whether it also writes the page to print.
    title
        The title of the page, if it is not the name of the experiment.
    program
        How the shell calls fnnexp, from :func:`program`.

    Examples
    --------
    >>> report_command("a b", ["init=he"]), report_command("-x", folder=Path("out"))
    ("fnnexp report 'a b' init=he", 'fnnexp report --folder out -- -x')
    """
    ranked += " --handout" * handout
    if title is not None:  # a parser would read a title that begins with a dash as an option
        ranked += f" --title{'=' if title.startswith('-') else ' '}{shlex.quote(title)}"
    options = f"{store}{ranked}{f' --folder {shlex.quote(str(folder))}' if folder else ''}"
    words = shlex.join([experiment, *where])
    if experiment.startswith("-"):
        return f"{program} report{options} -- {words}"
    return f"{program} report {words}{options}"


@dataclass(frozen=True)
class Command:
    """A command that trains, from the command line or from Python.

    Attributes
    ----------
    config_name
        The primary config: ``config`` for one trial, or the name of a grid.
    overrides
        The overrides in Hydra's grammar, in the user's order.
    config_dir
        A folder of the user's configs, which take precedence over fnnexp's.
    multirun
        Whether to run every combination of values. A grid with ``hydra.mode: MULTIRUN`` always does.
    pieces
        Files of the user's pieces, each of which may end in ``#sha256=`` and the start of its checksum.
    is_call
        Whether the command is a call from Python. Then the commands that are printed to paste are calls, too.
    """

    config_name: str = "config"
    overrides: tuple[str, ...] = ()
    config_dir: Path | None = None
    multirun: bool = False
    pieces: tuple[str, ...] = ()
    is_call: bool = False

    def __str__(self) -> str:
        """Return the shell command.

        >>> str(Command("card_grid", ("seed=range(5)",)))
        "fnnexp -cn card_grid 'seed=range(5)'"
        """
        return self.line()

    def line(self, program: str = "fnnexp") -> str:
        """Return the command for a shell that calls fnnexp as `program`; see the function :func:`program`."""
        words: list[str] = []
        for file in self.pieces:
            words += ["--pieces", file]
        words += ["-m"] if self.multirun else []
        words += [] if self.config_dir is None else ["-cd", str(self.config_dir)]
        words += [] if self.config_name == "config" else ["-cn", self.config_name]
        return f"{program} {shlex.join([*words, *self.overrides])}".rstrip()

    def pasted(self, name: str = "") -> str:
        """Return the command for the user to paste: a call of a Python function, or a line for a shell.

        It is a call if the user's own command was one (`is_call`). `name` is the word after
        ``fnnexp``: ``map``, ``lr``, or "" to train.

        >>> Command("card_grid", ("seed=0,1",), pieces=("a.py",), is_call=True).pasted()
        "fnnexp.sweep('card_grid', 'seed=0,1', pieces=['a.py'])"
        """
        if not self.is_call:
            return self.line(f"{program()} {name}".rstrip())
        words = [*([] if self.config_name == "config" else [self.config_name]), *self.overrides]
        arguments = [repr(word) for word in words]
        arguments += [] if self.config_dir is None else [f"config_dir={str(self.config_dir)!r}"]
        arguments += [f"pieces={[*self.pieces]!r}"] if self.pieces else []
        return f"{FUNCTIONS[name]}({', '.join(arguments)})"


FUNCTIONS = {"": "fnnexp.sweep", "map": "fnnexp.map", "lr": "fnnexp.lr_range"}
"""The functions that do in Python what commands do in a shell, by the command's name; "" trains."""


def grid_name(config_name: str) -> str | None:
    """Return the name of a grid from the name of its config; None if the config is not a grid.

    >>> grid_name("card_grid"), grid_name("mine/card_grid.yaml"), grid_name("config")
    ('card_grid', 'card_grid', None)
    """
    name = Path(config_name).name.removesuffix(".yaml")
    return None if name == "config" else name


DEVICE = r"(?i)(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[0-9¹²³])(\..*)?"
"""Names that Windows reserves for devices, in any folder and with any suffix."""


def file_name(experiment: str) -> str:
    """Return the experiment's name as a file name that is valid on every system.

    A name that has to be changed for this gets a hash at its end, so that different names stay different.

    >>> file_name("card_grid"), file_name("a b"), file_name("a/b"), file_name("..")
    ('card_grid', 'a_b-c8687a08', 'a_b-c14cddc0', 'experiment-5ec1f7e7')
    """
    name = re.sub(r"[^\w.-]+", "_", experiment).strip("._")[:100].rstrip(".") or "experiment"
    name = f"experiment_{name}" if re.fullmatch(DEVICE, name) else name
    digest = hashlib.sha256(experiment.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return name if name == experiment else f"{name}-{digest}"
