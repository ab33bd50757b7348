"""`python -m minifcn` is the command `minifcn`."""

import sys

from minifcn.cli import main

sys.exit(main())
