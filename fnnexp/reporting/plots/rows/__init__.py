"""Figures of rows of data: of a data set, of what a network gets wrong, and of what it predicts where."""
