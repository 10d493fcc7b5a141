"""What a sweep's parts take by themselves: a Hydra app that starts joblib's workers and trains nothing.

python -m benchmarks.empty_app

Its workers import NumPy and end. No sweep that is composed by Hydra and run by joblib takes less.
"""

from __future__ import annotations

import hydra
from joblib import Parallel, cpu_count, delayed
from omegaconf import DictConfig


def nothing() -> str:
    import numpy

    return numpy.__version__


@hydra.main(version_base="1.3", config_path=None, config_name=None)
def main(config: DictConfig) -> None:
    Parallel(n_jobs=cpu_count())(delayed(nothing)() for _ in range(cpu_count()))


if __name__ == "__main__":
    main()
