"""Maps: a trial for each cell of two numeric axes, kept as one MLflow run.

- ``axes``: an axis, as it is written in a command, and its values.
- ``request``: the words of a command: its axes, and the trials of its cells.
- ``cells``: the results of cells on disk, where later maps find them by trial id.
- ``training``: train the cells that are new, in large stacks.
- ``kept``: which trials of a map or a range test are finished, and the training of the others.
- ``arrays``: the map as arrays, in its run and in a notebook.
- ``picture``: the map drawn.
- ``command``: run a map from the command line.
"""
