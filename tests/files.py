"""How data sets in files are named."""

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
