"""The same as `rsml divide`: python divide_dataset.py --help"""

import sys

from rsml.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["divide", *sys.argv[1:]]))
