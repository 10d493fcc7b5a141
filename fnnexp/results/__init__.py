"""What sweeps have recorded: frames, statistics, comparisons."""
