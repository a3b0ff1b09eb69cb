"""People: accounts, sessions, tokens, who may see what, and what they did."""
