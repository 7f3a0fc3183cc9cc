"""The command line: ``ulmfit`` or ``python -m ulmfit``."""

import signal
import sys

from . import _ulmfit


def main() -> int:
    """Run the command line of this process; gives the exit status."""
    # the program has handlers of its own where it trains, and else ends at Ctrl-C
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    return _ulmfit.main(["ulmfit", *sys.argv[1:]])


if __name__ == "__main__":
    sys.exit(main())
