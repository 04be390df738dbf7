"""`python -m sentiment_core.cli` is the command `sentiment`."""

from sentiment_core.cli import main

main()
