"""Figures: one module per figure, the public api, and the shared style, scales, layout and picture."""
