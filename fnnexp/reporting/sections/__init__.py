"""The sections of a report; each module makes one section as data."""
