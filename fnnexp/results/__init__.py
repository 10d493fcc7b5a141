"""What sweeps have recorded, as frames, and what the frames say.

- ``frames``: runs, curves and diagnostics as typed data frames.
- ``factors``, ``filters``: what tells configurations apart; choosing rows.
- ``ranking``: which metric ranks, and which way is better.
- ``statistics``: functions from an array to a number or an interval.
- ``averages``: means and intervals over seeds, for figures.
- ``comparisons``: pairs, leaders and shares of variance.
- ``budgets``: trials cut where their batching modes have cost the same.
- ``numeric``: numeric factors as axes, and the best values on them.
- ``questions``: which rows answer what a frame asks, and the pairs that do.
- ``arguments``: checks that a function got such a frame.
"""
