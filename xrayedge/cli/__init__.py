"""The command line: arguments and printing only; each verb is one call into the library."""

from .group import main

__all__ = ["main"]
