"""`python -m xrayedge`."""

from .cli import main

main()
