"""``python -m portfolio.devserver``: serve on this machine, with a MongoDB of its own."""

import signal
import sys

# Until main() takes over, Ctrl-C would end the imports with a traceback.
signal.signal(signal.SIGINT, lambda *_: sys.exit(0))

from portfolio.devserver.launcher import main  # noqa: E402

sys.exit(main())
