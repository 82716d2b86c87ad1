"""The console script, and ``python -m vmferry`` for whoever has none in the PATH."""

from __future__ import annotations

import gc
import sys


def main() -> None:
    """Run the command line and exit with its code.

    The garbage collector rests until the command's modules are imported: none of what they make is garbage, and looking
    through it again and again takes a fifth of the start. ``cli`` wakes it.
    """
    gc.disable()
    from vmferry.cli import run

    sys.exit(run())


if __name__ == "__main__":
    main()
