"""Training jobs: each an operating-system process of its own, which the server starts, watches and ends."""
