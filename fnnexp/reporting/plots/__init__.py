"""Figures: one module for each kind, and what they share: style, scales, layout, averages, picture."""
