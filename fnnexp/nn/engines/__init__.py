"""Engines: different ways to compute products with images, and gradient descent one row at a time.

- ``base``: the interface of an engine, and the table ``ENGINES``.
- ``numpy_engine``: the first layer with NumPy and BLAS, without the columns that are zero in all rows.
- ``per_sample``: descent one row at a time with NumPy, in blocks of rows.
- ``numba_engine``: the first layer and descent one row at a time, in compiled loops over the nonzero pixels.
  No other module imports Numba.
"""
