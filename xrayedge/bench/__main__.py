"""`python -m xrayedge.bench` is `xrayedge bench`."""

import sys

from ..cli import main

main(["bench", *sys.argv[1:]], prog_name="xrayedge")
