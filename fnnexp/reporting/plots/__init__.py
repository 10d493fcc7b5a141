"""Figures: one module per figure, and the shared modules style, scales, layout and picture."""
