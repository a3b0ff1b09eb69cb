"""Makes ``python -m wara`` the command line."""

from wara.cli import main

main()
