"""Data sets: found, read, checked once, and mapped into memory.

===========  ===============================================================================================
module       what it does
===========  ===============================================================================================
datasets     The named data sets (``mnist``, ``digits``, ``files``): ``prepare`` one, ``load`` its arrays.
sources      Find the files of a data set: an ``.npz``, IDX files, or CSV files.
readers      Read them into arrays of numbers.
columns      Tell which column of a table is the label, and whether all others are pixels.
labelled     Make four arrays of bytes of the numbers, and check that these are labelled images.
npz          Read arrays from an ``.npz`` without pickle; also used for checkpoints and weights.
cache        Keep a prepared data set in the cache folder, and map it into memory from there.
download     Download MNIST once, and compare its SHA-256.
images       Show a data set as a pandas table.
===========  ===============================================================================================

A file's way is ``prepare``, ``sources``, ``readers`` (with ``columns``), ``labelled``, ``cache``; the workers
``load`` it from the cache. Every data set passes ``labelled.checked``, whatever it came in.

To add a data set, write one function in ``datasets``, enter it in ``DATASETS`` there, and add
``conf/data/NAME.yaml``.
"""
