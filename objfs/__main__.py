"""`python -m objfs`."""

from __future__ import annotations

import sys

from objfs.cli import main

if __name__ == "__main__":
    sys.exit(main())
