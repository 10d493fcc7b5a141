"""A Hydra app that starts joblib's workers and trains nothing, to measure the minimum time of a sweep.

python -m benchmarks.empty_app

The workers import NumPy and exit. Every sweep that uses Hydra and joblib takes at least this time.
"""

from __future__ import annotations

import hydra
from joblib import Parallel, cpu_count, delayed
from omegaconf import DictConfig


def import_numpy() -> str:
    import numpy

    return numpy.__version__


@hydra.main(version_base="1.3", config_path=None, config_name=None)
def main(config: DictConfig) -> None:
    Parallel(n_jobs=cpu_count())(delayed(import_numpy)() for _ in range(cpu_count()))


if __name__ == "__main__":
    main()
