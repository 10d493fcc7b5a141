"""The texts that are made from the schema: docs/reference.md, the README's table, the choices in the help.

The schema has the keys (:mod:`fnnexp.config.schema`), the tables of pieces have the names, and ``conf/`` has
the options. The comment at the start of its file describes an option. The docstring of an optimizer or a
schedule describes it, if its file has no such comment.
"""

from __future__ import annotations

import inspect
import re
import textwrap
from collections.abc import Callable, Iterable, Sequence
from dataclasses import Field, fields
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from fnnexp.config import Key, compose
from fnnexp.config.commands import Command
from fnnexp.config.schema import NODES, Config, conf_folder, keys_of
from fnnexp.nn.pieces import optimizers, schedules
from fnnexp.nn.pieces.activations import ACTIVATIONS
from fnnexp.nn.testing.gradcheck import KNOWN_WRONG
from fnnexp.results.frames import ARCHS

ROOT = Path(__file__).parents[1]
HELP, README, REFERENCE = ROOT / "fnnexp" / "choices.txt", ROOT / "README.md", ROOT / "docs" / "reference.md"
WIDTH, INDENT = 100, 19
"""The columns of the help, and where its second column begins."""

MANY = 6
"""A key with more names than this has a line of its own for them."""

DOCSTRINGS: dict[str, Callable[[str], object]] = {
    "optimizer": lambda name: optimizers.OPTIMIZERS[name].update,
    "schedule": lambda name: schedules.SCHEDULES[name].factor,
}
"""The groups whose options may be described by the docstring of their piece."""

SYMBOLS = {"optimizer": optimizers, "schedule": schedules}
"""The groups whose module explains the symbols of its formulas, in a paragraph "In the formulas …"."""

SYSTEMS = ("execution", "tracking")
"""The groups that say how to run, and have a single option."""


def pages() -> dict[Path, str]:
    """Return the text of each file that is made from the schema, the tables and ``conf/``."""
    return {HELP: help_text(), README: readme(README.read_text("utf-8")), REFERENCE: reference()}


def out_of_date() -> list[Path]:
    """Return the files of :func:`pages` that have another text."""
    return [file for file, text in pages().items() if not file.exists() or file.read_text("utf-8") != text]


# --- what there is ------------------------------------------------------------------------------------------


def groups() -> list[str]:
    """Return the groups and other nodes of the schema, in its order, with ``experiment`` after the pieces."""
    pieces = [name for name in NODES if name not in SYSTEMS]
    return [*pieces, "experiment", *SYSTEMS]


def declared(node: Any) -> dict[str, tuple[Field[Any], Key]]:
    """Return the keys of a node of the schema with their declarations, without the nodes below it."""
    return {
        field.name: (field, field.metadata["key"])
        for field in fields(node)
        if field.name in keys_of(node) and "key" in field.metadata
    }


def keys_in(group: str) -> list[str]:
    """Return the keys of a group in full, without the key that names the option."""
    if group not in NODES:
        return []
    return [f"{group}.{name}" for name in declared(NODES[group]) if not names_option(f"{group}.{name}")]


def names_option(key: str) -> bool:
    """Return whether a key has the name of the chosen option, as ``init.method``: the first of its group."""
    group, _, name = key.rpartition(".")
    keys = declared(NODES[group]) if group else {}
    return name == next(iter(keys), None) and bool(keys[name][1].names)


def files_of(group: str) -> list[Path]:
    """Return the files of a group's options, in the order of its table; others follow, sorted by name."""
    named = [about.names for _, about in declared(NODES[group]).values()] if group in NODES else []
    order = [*ARCHS, *(name for names in named for name in names)]
    files = sorted((conf_folder() / group).glob("*.yaml"))
    return sorted(files, key=lambda file: order.index(file.stem) if file.stem in order else len(order))


def options_of(group: str) -> list[str]:
    """Return the options of a group among which to choose. A single option is a choice if none is chosen."""
    names = [file.stem for file in files_of(group)]
    keys = declared(NODES[group]) if group in NODES else {}
    may_be_none = any(
        names_option(f"{group}.{name}") and field.default is None for name, (field, _) in keys.items()
    )
    return names if len(names) > 1 or may_be_none else []


def meaning_of(group: str, file: Path) -> str:
    """Return what an option is.

    Raises
    ------
    ValueError
        If its file does not say so, and nothing else does.
    """
    text = file.read_text("utf-8")
    head = re.match(r"(?:# @package .*\n)?((?:#.*\n)+)", text)
    if head:
        return " ".join(line.removeprefix("#").strip() for line in head[1].splitlines())
    comment = re.match(r"\w+: [^#\n]*# (.*)\n", text)
    if comment:
        return comment[1]
    if group in DOCSTRINGS:
        return said_by(DOCSTRINGS[group](file.stem))
    raise ValueError(f"{file}: say what this option is in a comment on its first line")


def said_by(piece: object, *, whole: bool = True) -> str:
    """Return the docstring of a piece without its verb and its sections, or only its first paragraph."""
    function = piece.func if isinstance(piece, partial) else piece
    paragraphs = re.split(r"\n\n", inspect.getdoc(function) or "")
    prose = [text for text in paragraphs if not re.match(r"\w+\n---", text)]
    text = in_markdown(" ".join(prose if whole else prose[:1]))
    return re.sub(r"^(Apply|Leave|Return|Write) ", "", text).removesuffix(".")


def in_markdown(docstring: str) -> str:
    """Return a docstring's text as Markdown."""
    return re.sub(r"(?::\w+:)?(`+)~?([^`]*)\1", r"`\2`", " ".join(docstring.split()))


def sets(group: str, file: Path) -> str:
    """Return the overrides that an option stands for, without its name."""
    content = yaml.safe_load(file.read_text("utf-8"))
    words = []
    for default in content.pop("defaults", []):
        if isinstance(default, dict):
            words += [f"{key.removeprefix('override /')}={value}" for key, value in default.items()]
        elif default != "_self_":
            words.append(f"{group}={default}")
    return " ".join([*words, *overrides(content, omitted=file.stem)])


def overrides(content: dict[str, Any], *, omitted: str, above: str = "") -> list[str]:
    """Return the values of a file as overrides, without references, nulls and the option's own name."""
    words: list[str] = []
    for key, value in content.items():
        if isinstance(value, dict) and key != "lr_for":
            words += overrides(value, omitted=omitted, above=f"{above}{key}.")
        elif value is not None and value != omitted and "${" not in str(value):
            words.append(f"{above}{key}={shown(value).replace(' ', '')}")
    return words


def shown(value: Any) -> str:
    """Return a value as a command line has it."""
    text = yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=1000)
    return text.removesuffix("...\n").strip().strip("'")


# --- the help -----------------------------------------------------------------------------------------------


def help_text() -> str:
    """Return the part of ``fnnexp --help`` that lists all choices and keys."""
    lines = ["Choices"]
    for group in groups():
        lines += in_columns(group, options_of(group))
        lines += in_columns("" if options_of(group) else group, map(with_names, keys_in(group)))
        for key in keys_in(group):
            lines += in_columns(key, long_list(key))
    lines += in_columns("other keys", map(with_names, declared(Config)))
    return "\n".join([*lines, ""])


def names_of(key: str) -> list[str]:
    """Return the allowed names of a key, without the pieces that are wrong on purpose."""
    group, _, name = key.rpartition(".")
    about = declared(NODES[group] if group else Config)[name][1]
    return [name for name in about.names if name not in KNOWN_WRONG]


def long_list(key: str) -> list[str]:
    """Return the allowed names of a key that has too many for :func:`with_names`."""
    return names if len(names := names_of(key)) > MANY else []


def with_names(key: str) -> str:
    """Return a key, with its names if there are few: ``loss.reduction=mean|sum``."""
    names = names_of(key)
    return f"{key}={'|'.join(names)}" if 0 < len(names) <= MANY else key


def in_columns(title: str, words: Iterable[str]) -> list[str]:
    """Return lines with a title in the first column and words in the second; none without words."""
    lines = textwrap.wrap("  ".join(words), WIDTH - INDENT, break_long_words=False, break_on_hyphens=False)
    return [f"{'' if number else f'  {title}':{INDENT}}{line}" for number, line in enumerate(lines)]


# --- the README ---------------------------------------------------------------------------------------------


def readme(text: str) -> str:
    """Return the README with a new table of choices between its markers."""
    begin, end = "<!-- choices: made by `make reference` -->\n", "<!-- end of choices -->\n"
    before, marker, rest = text.partition(begin)
    _, closed, after = rest.partition(end)
    if not (marker and closed):
        raise ValueError(f"README.md lacks the lines {begin}and {end}")
    return f"{before}{begin}\n{choices_table()}\n{end}{after}"


def choices_table() -> str:
    """Return the README's table of choices: the options of each group, or its keys if it has no options."""
    rows = []
    for group in groups():
        keys = keys_in(group)
        options = options_of(group) or [f"{group}.{key.partition('.')[2]}" for key in keys]
        rows.append([f"[`{group}`](docs/reference.md#{group})", options])
        rows += [[f"`{key}`", listed] for key in keys if (listed := long_list(key))]
    rows.append(["[other keys](docs/reference.md#other-keys)", declared(Config)])
    shown = [[name, " ".join(f"`{word}`" for word in words)] for name, words in rows]
    return table(("group", "options, or keys"), shown)


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table in Markdown."""
    escaped = [[cell.replace("|", r"\|") for cell in row] for row in rows]
    lines = [re.sub("  +", " ", f"| {' | '.join(row)} |") for row in escaped]
    return "\n".join([f"| {' | '.join(heads)} |", "|---" * len(heads) + "|", *lines, ""])


# --- the reference ------------------------------------------------------------------------------------------

INTRODUCTION = """\
# Every key and option

The keys of a config, and the options of its groups. `fnnexp KEY=VALUE` sets a key, `fnnexp GROUP=OPTION`
chooses an option, and `fnnexp -m KEY=VALUE,VALUE` sweeps over several values of either. The defaults are
those of `fnnexp` without arguments; an option also sets the keys of its group that stand in the last column.
`fnnexp --cfg job` shows every key with its value.

`make reference` makes this page from the schema, the tables of pieces and `conf/`.
"""


PRESETS = """\
Presets: published programs with their settings. [published.md](published.md) compares them.
"""


def reference() -> str:
    """Return docs/reference.md."""
    defaults = yaml.safe_load(compose.show(Command("config", ()), "job", resolve=True))
    parts = [INTRODUCTION]
    for group in groups():
        parts.append(f"## {group}\n")
        if group in NODES:
            parts += [f"{in_markdown(inspect.getdoc(NODES[group]) or '')}\n", keys_table(group, defaults)]
        else:
            parts.append(PRESETS)
        if options_of(group):
            parts += [options_table(group), *symbols(group)]
        if group == "arch":
            parts.append(activations_table())
    parts += ["## Other keys\n", keys_table("", defaults)]
    return "\n".join(parts)


def keys_table(group: str, defaults: dict[str, Any]) -> str:
    """Return the table of a group's keys, or of the keys without a group."""
    rows = []
    for name, (field, about) in declared(NODES[group] if group else Config).items():
        full = f"{group}.{name}" if group else name
        default = (defaults[group] if group else defaults)[name]
        of_option = names_option(full)
        meaning = f"{about.meaning} `{group}=…` sets it." if of_option else about.meaning
        rows.append(
            [
                f"`{full}`",
                type_of(field, about),
                f"`{shown(default)}`",
                "as below" if of_option else allowed(about),
                meaning,
            ]
        )
    return table(("key", "type", "default", "allowed", "meaning"), rows)


def type_of(field: Field[Any], about: Key) -> str:
    """Return the type of a key's values, in words."""
    kind = str(field.type).removesuffix(" | None")
    number = {"int": "whole number", "float": "number", "bool": "true or false", "str": "text"}
    if about.kind:
        return about.kind + (", or null" if field.default is None else "")
    if kind == "Any":
        words = "name, or list of names" if about.names else "number, or list of numbers"
    elif kind.startswith("list"):
        words = "list of whole numbers"
    elif kind.startswith("dict"):
        words = "number for each mode"
    else:
        words = "name" if about.names else number[kind]
    return (
        words + (f" of {about.unit}" if about.unit else "") + (", or null" if str(field.type) != kind else "")
    )


def allowed(about: Key) -> str:
    """Return the allowed names, or the bounds, of a key's values."""
    bounds = (("≥", about.least), (">", about.above), ("≤", about.most), ("<", about.below))
    limits = " and ".join(f"{sign} {bound:,.10g}" for sign, bound in bounds if bound is not None)
    return " ".join(f"`{name}`" for name in about.names) or limits


def options_table(group: str) -> str:
    """Return the table of a group's options."""
    rows = [
        [f"`{file.stem}`", meaning_of(group, file), f"`{words}`" if (words := sets(group, file)) else ""]
        for file in files_of(group)
    ]
    return table((f"`{group}=`", "meaning", "sets"), rows)


def symbols(group: str) -> list[str]:
    """Return the paragraph that explains the symbols in the formulas of a group."""
    text = inspect.getdoc(SYMBOLS[group]) or "" if group in SYMBOLS else ""
    return [f"{in_markdown(part)}\n" for part in text.split("\n\n") if part.startswith("In the formulas")]


def activations_table() -> str:
    """Return the table of activations with their formulas."""
    rows = [
        [f"`{name}`", said_by(piece.forward, whole=False), said_by(piece.derivative, whole=False)]
        for name, piece in ACTIVATIONS.items()
    ]
    return table(("`arch.activation=`", "activation of the values Z before it", "derivative"), rows)
