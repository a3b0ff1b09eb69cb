"""Servers and jobs killed at random moments: what was acknowledged is still there, and results are the same."""
