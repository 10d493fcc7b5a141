"""Data frames of what sweeps have recorded, and comparisons of their trials.

- ``frames``: runs, curves and diagnostics as typed data frames.
- ``factors``: what distinguishes configurations; ``filters``: selection of rows.
- ``arguments``: validation of frames that users pass in.
- ``ranking``: which metric ranks trials, and in which direction.
- ``statistics``: functions from an array to a number or an interval.
- ``comparisons``: pairs, leaders and shares of variance.
- ``race``: which questions of a sweep are settled, while seeds are added.
- ``seeds``: how much each seed changes the results.
- ``numeric``: numeric factors as axes, and the best values on them.
- ``questions``: which rows to compare, and all comparisons of a report.
- ``networks``: the networks of finished trials, and networks that are trained without a store.
"""
