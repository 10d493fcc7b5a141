"""What ``fnnexp gradcheck`` shows: every gradient against finite differences."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from fnnexp.errors import FnnexpError
from fnnexp.nn import gradcheck


def show(names: Sequence[str]) -> int:
    """Print the checks of these names (none: all); return 1 when one fails that is not known to be wrong.

    The derivative as published is wrong and is shown as failed. It counts when it is asked for by name.
    """
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
