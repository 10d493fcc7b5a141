"""Networks to use: those of finished trials, read from their runs, and those of ``fnnexp.Classifier``.

- ``network``: a network that predicts; ``inputs``: the rows that it is given.
- ``finding``: the run that an id or a name means; ``stored``: its config and weights, and ``fnnexp.load``.
- ``histograms``: the histograms of its layers.
- ``mistakes``: what a network predicts wrongly, as frames; ``regions``: what it predicts in the plane.
- ``classifier``: the estimator for scikit-learn; ``verifying``: trials that are trained again.
- ``alone``: training of a single trial; ``one_thread``: BLAS as training uses it.
"""
