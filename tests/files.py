"""Names of the files of a data set, and checkpoints in the first format, with the curve in the same file."""

import io
import json

import numpy as np

NAMES = ("x_train", "y_train", "x_test", "y_test")
IDX_NAMES = dict(
    zip(
        NAMES,
        (
            "train-images-idx3-ubyte",
            "train-labels-idx1-ubyte",
            "t10k-images-idx3-ubyte",
            "t10k-labels-idx1-ubyte",
        ),
        strict=True,
    )
)


def in_first_format(checkpoint):
    """Return the arrays of a checkpoint in the first format, with the curve in its description."""
    arrays = dict(np.load(io.BytesIO(checkpoint.read_bytes())))
    meta = json.loads(arrays["meta"].tobytes())
    (curve,) = checkpoint.parent.glob(f"{checkpoint.name.partition('.')[0]}.{meta['curve']['file']}.curve")
    meta["curve"] = [json.loads(line) for line in curve.read_text().splitlines()]
    return arrays | {"meta": np.frombuffer(json.dumps(meta).encode(), np.uint8)}
