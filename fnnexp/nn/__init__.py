"""The numbers: small fully-connected networks for K lanes at once, in NumPy and nothing else."""
