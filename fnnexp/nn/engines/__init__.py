"""Engines: who multiplies with the images, and who descends one row at a time."""
