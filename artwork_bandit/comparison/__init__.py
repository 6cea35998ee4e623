"""Variants and cells side by side, from summed counts."""
