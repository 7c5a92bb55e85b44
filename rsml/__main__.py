"""`python -m rsml` is `rsml`."""

import sys

from rsml.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
