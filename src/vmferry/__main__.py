"""``python -m vmferry``: the command, for whoever has no script in the PATH."""

from __future__ import annotations

from vmferry.cli import main

if __name__ == "__main__":
    main()
