"""What the project is made with, and its users do not need: the training of the embedded backbone."""
