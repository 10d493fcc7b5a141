"""Run one contender in a process: prepare it, print ``ready``, and train an epoch at each input ``go``."""

from __future__ import annotations

import argparse
import os
import sys
import time


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("contender")
    parser.add_argument("mode")
    parser.add_argument("lanes", type=int)
    parser.add_argument("dtype")
    parser.add_argument("rows", type=int)
    parser.add_argument("threads", type=int)
    arguments = parser.parse_args()
    threads = str(arguments.threads)
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = threads
    if arguments.threads == 1:
        os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
    from benchmarks.contenders import CONTENDERS, SETTINGS

    out, sys.stdout = sys.stdout, sys.stderr
    train = CONTENDERS[arguments.contender](
        SETTINGS[arguments.mode],
        arguments.lanes,
        arguments.dtype,
        arguments.rows,
        arguments.threads,
    )
    train()  # compile, and warm up the caches
    print("ready", file=out, flush=True)
    for line in sys.stdin:
        if line.strip() != "go":
            break
        began = time.perf_counter()
        train()
        print(time.perf_counter() - began, file=out, flush=True)


if __name__ == "__main__":
    main()
