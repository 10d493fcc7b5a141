"""Running many trials: the plan, the workers, checkpoints, progress, and the loop over them."""
