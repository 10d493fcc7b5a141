"""Data sets: found, read, checked once, and mapped into memory."""
