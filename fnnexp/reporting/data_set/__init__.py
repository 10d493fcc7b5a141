"""What a trial would train on: a data set, to look at before anything trains.

- ``facts``: functions of rows: counts by class, ranges of inputs, duplicates, rows to look at.
- ``characters``: images and points drawn with characters.
- ``shown``: what ``fnnexp data`` prints and ``fnnexp.show_data`` returns.
"""
