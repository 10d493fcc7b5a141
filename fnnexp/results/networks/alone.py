"""Train one trial by itself, in this process and without a store."""

from __future__ import annotations

from fnnexp.nn.stack import DataArrays, End, Lane, Recipe, Record
from fnnexp.nn.training import advance, start
from fnnexp.results.networks.one_thread import ONE_THREAD


def train(recipe: Recipe, lane: Lane, arrays: DataArrays, engine: str) -> tuple[list[Record], End]:
    """Train one network; return the record of each epoch, and how training ended, with the weights.

    The numbers are bitwise those that a sweep would give.

    Parameters
    ----------
    recipe, lane
        The settings of the training. A sweep trains several networks (lanes) with one recipe together.
    engine
        A key of :data:`fnnexp.nn.engines.base.ENGINES`.
    """
    with ONE_THREAD:
        stack, records = advance(recipe, start(recipe, [lane]), arrays, engine=engine)
    end = stack.end(0) if stack.lanes else records[-1].end
    assert end is not None
    return records, end
