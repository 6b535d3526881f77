"""The exception that ends a command before it has done anything."""


class Refusal(Exception):
    """What was given cannot be used; the text says why and what to do."""
