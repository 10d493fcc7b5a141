"""Benchmarks, which are described in benchmarks/README.md and docs/speed.md."""
