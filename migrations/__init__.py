"""Alembic's scripts; they ship with the package as `artwork_bandit.migrations`."""
