"""Contextual-bandit selection of artworks, trailers and labels for a streaming service."""

__version__ = "0.1.0"
