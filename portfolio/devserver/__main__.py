"""``python -m portfolio.devserver``: serve on this machine, with a MongoDB of its own."""

import sys

from portfolio.devserver.launcher import main

sys.exit(main())
