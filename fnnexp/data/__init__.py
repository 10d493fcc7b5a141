"""Find, read and check data sets once, and map them into memory.

===========  ===============================================================================================
module       what it does
===========  ===============================================================================================
datasets     The named data sets (``mnist``, ``digits``, ``files``, …): ``prepare`` and ``load`` them.
sources      Find the files of a data set: an ``.npz``, IDX files, CSV files, or folders of images.
readers      Read them into arrays of numbers.
columns      Find the label column of a table, and check that all others are inputs.
image_files  Read images, which lie in a folder for each class.
labelled     Convert the numbers to four arrays, and check that these are labelled images or other rows.
toys         Draw points in the plane: ``moons``, ``circles`` and ``spirals``.
npz          Read arrays from an ``.npz`` without pickle; also used for checkpoints and weights.
cache        Keep a prepared data set in the cache folder, and map it into memory from there.
download     Download MNIST, Fashion-MNIST and KMNIST once, and compare their SHA-256.
images       Show a data set as a pandas table.
===========  ===============================================================================================

``prepare`` passes a file through ``sources``, ``readers`` (with ``columns`` or ``image_files``), ``labelled``
and ``cache``. The workers ``load`` it from the cache. Every data set passes ``labelled.checked``, whatever
its file format.

To add a data set, write one function in ``datasets``, enter it in ``DATASETS`` there, and add
``conf/data/NAME.yaml``.
"""
