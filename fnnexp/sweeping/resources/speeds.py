"""How long an epoch of a stack takes: a rough figure from its shape, corrected by what was measured."""

from __future__ import annotations

import math
import statistics
from collections import Counter, deque
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace

from fnnexp.data.cache import cache_folder
from fnnexp.nn.epoch import CHUNK, descends_by_row, same_order_groups
from fnnexp.nn.network import Architecture
from fnnexp.nn.training import Recipe
from fnnexp.sweeping.plan import PlannedStack
from fnnexp.sweeping.resources import kept_speeds
from fnnexp.sweeping.resources.engine import skips_pixels, threads_used
from fnnexp.sweeping.resources.kept_speeds import Kept, key_of

# --- a rough estimate ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Costs:
    """The costs, in seconds, that add up to the time of an epoch of a stack of lanes (networks).

    Attributes
    ----------
    weight, row
        The cost of each weight of a lane for each row, and the other cost of each row of a lane.
    order
        The cost of each row, once for all lanes that have the rows in the same order.
    step
        The cost of each step for each layer, whatever the number of lanes.
    """

    weight: float
    row: float
    order: float
    step: float


COSTS = {
    ("numpy", "full"): Costs(1.5e-11, 2e-7, 4e-7, 0.0),
    ("numpy", "mini"): Costs(1.5e-11, 3e-7, 5e-7, 5e-5),
    ("numpy", "sample"): Costs(2.6e-11, 1.3e-6, 1e-7, 6e-6),
    ("numba", "full"): Costs(9.5e-12, 3.3e-7, 3e-7, 0.0),
    ("numba", "mini"): Costs(8.6e-12, 3e-7, 5e-7, 3e-5),
    ("numba", "sample"): Costs(4.2e-11, 5e-7, 1e-7, 1e-7),
}
"""The costs of an epoch by engine and batching mode, measured on MNIST in float32 while two workers used both
cores (EPYC with AVX-512). Once an epoch was measured on this machine, only the ratios of these costs matter.
"""

DENSE = 3.0
"""How many times as long a weight of a later layer takes as one of the first layer, whose inputs are mostly
0."""

VECTOR = 32
"""A layer takes as long as a layer whose width is the next multiple of this number."""

EVALUATED = 0.3
"""The time to evaluate a row, as a share of the time to train with it in a batch."""

FLOAT64 = {"full": 2.2, "mini": 2.0, "sample": 1.3}
"""How many times as long as in float32 an epoch takes in float64, by batching mode
(``benchmarks/results/speed.csv``)."""

DIVIDED, ASSISTED = 0.9, 0.4
"""How much faster each further thread makes a stack, as a share of the speed of one: if threads divide its
batches, and if a second thread assists its only lane."""


@dataclass(frozen=True)
class Rough:
    """A rough estimate of the seconds of an epoch, for one kind of stack.

    Attributes
    ----------
    mode
        The batching mode.
    lane, shared
        The seconds of an epoch for each lane (network), and those that all lanes share.
    divided
        The largest number of threads that divide a batch among them.
    assisted
        Whether a second thread assists a stack with one lane.
    """

    mode: str
    lane: float
    shared: float
    divided: int = 1
    assisted: bool = False

    @classmethod
    def of(cls, planned: PlannedStack, engine: str) -> Rough:
        """Return the estimate for stacks of networks of the same kind as this one."""
        recipe, data = planned.recipe, planned.data
        architecture, rows = recipe.architecture, recipe.rows_to_train(data.n_train)
        size = recipe.batching.batch_size(rows)
        mode = "sample" if descends_by_row(recipe) else "mini" if size < rows else "full"
        is_fast = engine == "numba" and (mode == "sample" or skips_pixels(recipe, data))
        costs = COSTS["numba" if is_fast else "numpy", mode]
        weights = _weights(architecture)
        slower = FLOAT64[mode] if recipe.dtype == "float64" else 1.0
        by_batch = COSTS["numba" if is_fast and mode != "sample" else "numpy", "full"]
        evaluated = EVALUATED * (weights * by_batch.weight + by_batch.row)
        trained = (architecture.parameter_count if mode == "sample" else weights) * costs.weight + costs.row
        lane = rows * (trained if recipe.epochs else evaluated)
        lane += (recipe.validation + data.n_test) * evaluated
        shared = -(-rows // size) * len(architecture.shapes) * costs.step
        if len(same_order_groups(recipe, planned.stack)) == 1:
            shared += rows * costs.order
        else:
            lane += rows * costs.order
        divided = 1 if mode == "sample" or size <= CHUNK else -(-size // CHUNK)
        assisted = divided == 1 and threads_used(planned, engine, 2, lanes=1) == 2
        return cls(mode, slower * lane, slower * shared, divided, assisted)

    def seconds(self, lanes: int, threads: int) -> float:
        """Return the seconds of an epoch of a stack with this number of lanes (networks).

        >>> wide, alone = Rough("full", 2.0, 1.0, divided=8), Rough("mini", 2.0, 0.4, assisted=True)
        >>> wide.seconds(4, 1), wide.seconds(9, 2), alone.seconds(1, 1), alone.seconds(4, 2)
        (9.0, 10.0, 2.4, 8.4)
        """
        seconds = lanes * self.lane + self.shared
        if self.assisted:
            return seconds / (1 + ASSISTED * (lanes == 1 and threads > 1))
        return seconds / (1 + DIVIDED * (min(threads, self.divided) - 1))


def _weights(architecture: Architecture) -> float:
    """Return how many weights of a first layer would take as long as all weights of this network.

    Weights of later layers are multiplied at another speed.
    """
    first, *later = (n * -(-width // VECTOR) * VECTOR for n, width in architecture.shapes)
    return first + DENSE * sum(later)


# --- what is known and measured -----------------------------------------------------------------------------

HALF_LIFE, LONG_HALF_LIFE = 5.0, 60.0
"""After so many seconds of training, an earlier measurement counts half, since other programs may slow the
machine down for a while. The first number is for measurements of one kind of stack, the second for those of
several kinds together."""

MOST_EPOCHS = 999
"""How many of the latest epochs of stacks of one kind and width are remembered."""


class _Factors:
    """How many times longer epochs took than expected, by kind of stack.

    A kind that was not measured gets the factor of the kinds with the same batching mode; or, if there are
    none, that of all kinds.
    """

    def __init__(self) -> None:
        self._taken: dict[Hashable, tuple[float, float]] = {}  # seconds taken and expected, by group of kinds

    def note(self, groups: Sequence[Hashable], taken: float, expected: float, weight: float) -> None:
        for group, half_life in zip(groups, (HALF_LIFE, LONG_HALF_LIFE, LONG_HALF_LIFE), strict=True):
            share = 0.5 ** (weight * taken / half_life)
            before = self._taken.get(group, (0.0, 0.0))
            self._taken[group] = share * before[0] + weight * taken, share * before[1] + weight * expected

    def of(self, groups: Sequence[Hashable]) -> float:
        for group in groups:
            if group in self._taken:
                taken, expected = self._taken[group]
                return taken / expected
        return 1.0


class Speeds:
    """How many seconds an epoch of each kind of stack (networks that train together) takes.

    The answer is a rough estimate from the stack's shape, times a factor from measurements before the sweep,
    times a factor from measurements in the sweep. A kind without measurements gets the factor of the kinds
    with the same batching mode; or, if there are none, that of all kinds.

    Parameters
    ----------
    engine
        The name of the engine that trains.
    """

    def __init__(self, engine: str = "numpy") -> None:
        self.engine = engine
        self._numbers: dict[Hashable, int] = {}
        self._rough: list[Rough] = []
        self._kinds: list[tuple[Recipe, str]] = []
        self._before, self._since = _Factors(), _Factors()
        self._epochs: dict[tuple[int, int, int], deque[float]] = {}
        self._trials: Counter[tuple[int, int, int]] = Counter()

    def kind(self, planned: PlannedStack) -> int:
        """Return the number of a stack's kind. Recipes that differ only in `epochs` are of one kind."""
        number = self._numbers.get(planned.kind)
        if number is None:
            recipe = replace(planned.recipe, epochs=min(planned.recipe.epochs, 1))
            kind = recipe, planned.data.checksum
            number = self._numbers.setdefault(kind, len(self._rough))
            if number == len(self._rough):
                self._rough.append(Rough.of(planned, self.engine))
                self._kinds.append(kind)
            self._numbers[planned.kind] = number
        return number

    def rough(self, kind: int, lanes: int, threads: int) -> float:
        """Return the seconds of an epoch of a stack of networks, estimated from its shape alone."""
        return self._rough[kind].seconds(lanes, threads)

    def epoch(self, kind: int, lanes: int, threads: int) -> float:
        """Return the seconds of an epoch of a stack, estimated from its shape and all measurements so far."""
        return self._expected(kind, lanes, threads) * self._since.of(self._groups(kind))

    def suppose(self, kind: int, lanes: int, threads: int, seconds: float) -> None:
        """Expect that an epoch of a stack of networks takes so many seconds, until it is measured."""
        self._before.note(self._groups(kind), seconds, self.rough(kind, lanes, threads), 1.0)

    def note(
        self, kind: int, lanes: int, threads: int, seconds: float, *, epochs: float = 1, weight: float = 1.0
    ) -> None:
        """Take into account that some epochs of a stack took so many seconds.

        A `weight` below 1 is for a measurement that is less reliable than others.
        """
        expected = epochs * self._expected(kind, lanes, threads)
        self._since.note(self._groups(kind), seconds, expected, weight)

    def _expected(self, kind: int, lanes: int, threads: int) -> float:
        return self.rough(kind, lanes, threads) * self._before.of(self._groups(kind))

    def _groups(self, kind: int) -> tuple[Hashable, ...]:
        return kind, self._rough[kind].mode, None

    # --- for later sweeps -----------------------------------------------------------------------------------

    def remember(self, kind: int, lanes: int, threads: int, epochs: Sequence[float], *, trials: int) -> None:
        """Collect the seconds of single epochs of a stack of networks, to be kept for later sweeps.

        `trials` is the number of trials that began with these epochs.
        """
        key = kind, lanes, threads
        self._epochs.setdefault(key, deque(maxlen=MOST_EPOCHS)).extend(epochs)
        self._trials[key] += trials

    def remembered(self, workers: int) -> Kept:
        """Return what :meth:`remember` collected, for the file of speeds: the median seconds of an epoch.

        They are by kind of stack and number of networks.
        """
        kept: dict[str, dict[str, tuple[float, int]]] = {}
        for (kind, lanes, threads), epochs in self._epochs.items():
            key = key_of(*self._kinds[kind], self.engine, threads, workers)
            trials = max(self._trials[kind, lanes, threads], lanes)
            kept.setdefault(key, {})[str(lanes)] = statistics.median(epochs), trials
        return kept

    def recall(self, kept: Kept, kind: int, lanes: int, threads: int, workers: int) -> int:
        """Use the speed that earlier sweeps recorded for a kind of stack, if there is one.

        Only speeds of stacks with half to twice as many lanes (networks) are used. Return the number of
        trials from which the speed is known; 0 if there is no such speed.
        """
        recipe, checksum = self._kinds[kind]
        widths = (
            kept.get(key_of(recipe, checksum, self.engine, threads, workers), {}) if recipe.epochs else {}
        )
        near = [int(width) for width in widths if 0.5 <= int(width) / lanes <= 2]
        if not near:
            return 0
        nearest = min(near, key=lambda width: abs(math.log(width / lanes)))
        seconds, trials = widths[str(nearest)]
        self.suppose(kind, nearest, threads, seconds)
        return trials


def recalled(
    speeds: Speeds, stacks: Sequence[PlannedStack], threads: int, workers: int
) -> dict[int, tuple[PlannedStack, int]]:
    """Put into `speeds` what earlier sweeps on this machine recorded for these stacks of networks.

    Return a dict with an entry for each kind of stack: the first stack of this kind, and the number of trials
    from which its speed is known, 0 if it is not known.
    """
    kept, kinds = kept_speeds.kept(cache_folder()), {}
    for stack in stacks:
        if (kind := speeds.kind(stack)) not in kinds:
            kinds[kind] = stack, speeds.recall(kept, kind, len(stack.lanes), threads, workers)
    return kinds
