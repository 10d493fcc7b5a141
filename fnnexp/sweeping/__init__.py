"""Running many trials.

A stack is a set of trials that train together as one array; each trial of it is a lane. A segment is some
epochs of a stack, trained by one worker call.

- ``loop``: the sweep itself. It submits stacks to workers and logs the segments that come back.
- ``plan``, ``waiting``: group trials into stacks; queue the stacks and find the trial that breaks its stack.
- ``executor``, ``worker``, ``backends/``: run segments in parallel; train one segment; loky and clusters.
- ``runs``, ``checkpoints``: log to MLflow; save and restore training.
- ``locks``: keep two concurrent sweeps from training the same trial.
- ``stopping``, ``progress``, ``time_left``, ``dry_run``: handle Ctrl-C; show progress and time left; print
  the plan.
"""
