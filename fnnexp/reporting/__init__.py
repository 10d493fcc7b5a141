"""The report of an experiment: sections, figures, and how they are rendered."""
