"""The published experiments, run again and compared with their published tables."""
