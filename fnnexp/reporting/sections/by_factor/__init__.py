"""The sections about single factors; each module makes one section as data."""
