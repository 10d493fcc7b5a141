"""Commands: what a user asks for, and what the product prints, each as a shell takes it."""

from __future__ import annotations

import re
import shlex
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


def program() -> str:
    """Return what a shell here calls fnnexp: its name, or how this one was called where the name finds none.

    The name may also find another, in another environment.
    """
    called, found = Path(sys.argv[0]), shutil.which("fnnexp")
    if called.parts[-2:] == ("fnnexp", "__main__.py"):
        return "fnnexp" if found else f"{shlex.quote(sys.executable)} -m fnnexp"
    if called.stem != "fnnexp" or (found and called.exists() and called.samefile(found)):
        return "fnnexp"
    return shlex.quote(sys.argv[0])


def ranking_options(metric: str | None, margin: float | None) -> str:
    """Return the options of a report that is ranked by a metric, or with a margin.

    >>> ranking_options("val_loss", 0.5), ranking_options(None, None)
    (' --metric val_loss --margin 0.5', '')
    """
    named = "" if metric is None else f" --metric {shlex.quote(metric)}"
    return named + ("" if margin is None else f" --margin {margin:g}")


def report_command(
    experiment: str,
    where: Sequence[str] = (),
    *,
    store: str = "",
    ranked: str = "",
    folder: Path | None = None,
    program: str = "fnnexp",
) -> str:
    """Return the command that reports on an experiment, as a shell takes it.

    Parameters
    ----------
    experiment
        Its name.
    where
        The options of the part that is reported, `KEY=VALUE`.
    store
        What names the store, from :func:`fnnexp.tracking.store.option`.
    ranked
        What is ranked by, from :func:`ranking_options`.
    folder
        Where the report goes, if not to its usual place.
    program
        What the shell calls fnnexp.

    Examples
    --------
    >>> report_command("a b", ["init=he"]), report_command("-x", folder=Path("out"))
    ("fnnexp report 'a b' init=he", 'fnnexp report --folder out -- -x')
    """
    options = f"{store}{ranked}{f' --folder {shlex.quote(str(folder))}' if folder else ''}"
    words = shlex.join([experiment, *where])
    if experiment.startswith("-"):
        return f"{program} report{options} -- {words}"
    return f"{program} report {words}{options}"


PLAIN = r"(?!(null|true|false|nan|inf)$|\.\d)[A-Za-z_./][\w./-]*"
"""A text that Hydra's override grammar reads as itself."""


def quoted(text: str) -> str:
    r"""Return a text as Hydra's override grammar reads it back: in quotes where it is not plain.

    >>> [quoted(text) for text in ("he", "a/b.npz", "a b", "True", ".5")]
    ['he', 'a/b.npz', "'a b'", "'True'", "'.5'"]
    """
    if re.fullmatch(PLAIN, text, re.ASCII | re.IGNORECASE):
        return text
    # Hydra's grammar: a backslash escapes a quote, and itself only before one or at the end.
    escaped = re.sub(r"(\\*)('|\Z)", lambda m: m[1] * 2 + ("\\'" if m[2] else ""), text)
    return f"'{escaped}'"


@dataclass(frozen=True)
class Command:
    """What a user asks for: the words of the command line, or of a call from Python.

    Attributes
    ----------
    config_name
        The primary config: ``config`` for one trial, or the name of a grid.
    overrides
        In Hydra's grammar, in the user's order.
    config_dir
        A folder with configs of the user's own, which come before fnnexp's.
    multirun
        Whether to run every combination; a grid with ``hydra.mode: MULTIRUN`` does so anyway.
    """

    config_name: str = "config"
    overrides: tuple[str, ...] = ()
    config_dir: Path | None = None
    multirun: bool = False

    def __str__(self) -> str:
        """Return it as a shell takes it.

        >>> str(Command("card_grid", ("seed=range(5)",)))
        "fnnexp -cn card_grid 'seed=range(5)'"
        """
        words = ["fnnexp", *(["-m"] if self.multirun else [])]
        words += [] if self.config_dir is None else ["-cd", str(self.config_dir)]
        words += [] if self.config_name == "config" else ["-cn", self.config_name]
        return shlex.join([*words, *self.overrides])


def grid_name(config_name: str) -> str | None:
    """Return the name of a grid's file, which may be given with its extension; None where there is none.

    >>> grid_name("card_grid"), grid_name("mine/card_grid.yaml"), grid_name("config")
    ('card_grid', 'card_grid', None)
    """
    name = Path(config_name).name.removesuffix(".yaml")
    return None if name == "config" else name
