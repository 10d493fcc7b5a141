"""fnnexp: which small neural network works, and why.

The public API is small: :func:`runs` and :func:`curves` read what sweeps have recorded.
"""

__version__ = "0.1.0"
