"""The report of an experiment: its sections, its figures and their rendering."""
