"""Running many trials.

- ``loop``: the sweep; it hands out stacks and takes in segments.
- ``plan``, ``waiting``: which trials share a stack; what waits, and what is suspected of breaking.
- ``executor``, ``worker``, ``backends/``: several segments at a time; one segment; loky and clusters.
- ``runs``, ``checkpoints``: what is logged, and what is saved.
- ``locks``: two sweeps at once never train the same trial.
- ``stopping``, ``progress``, ``dry_run``: Ctrl-C; the progress bar; the plan on screen.
"""
