"""Ways to reach worker processes: joblib's loky on this machine, and clusters of Dask and Ray."""
