"""seqrec: experiments in robust sequential recommendation."""

__version__ = "0.1.0"
