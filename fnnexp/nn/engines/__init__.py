"""Engines: how the products with images and the per-sample steps are computed.

- ``base``: what an engine is, and the table ``ENGINES``.
- ``numpy_engine``: NumPy's first layer, by BLAS, without the columns that are zero in all rows.
- ``per_sample``: NumPy's descent one row at a time, a block of rows together.
- ``numba_engine``: compiled loops over the nonzero pixels alone, for both. It alone imports Numba.
"""
