"""The sections of a report: each module makes one, as data."""
