"""Backends that run workers: joblib's loky on this machine, and Dask and Ray clusters."""
