"""The error of the adapters: an option, a model or a tensor that they cannot work with."""


class AdapterError(ValueError):
    """A wrong option, model or tensor; the text says what was wrong, the value seen and what to do."""
