"""Makes ``python -m wara`` the command line."""

from wara.waiting import wait_briefly

wait_briefly()

from wara.cli import main  # noqa: E402 - what it imports may import torch

main()
