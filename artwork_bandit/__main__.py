"""`python -m artwork_bandit` is the `artwork-bandit` command."""

from artwork_bandit.cli import main

main()
