"""The same as `rsml predict`: python predict.py --help"""

import sys

from rsml.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["predict", *sys.argv[1:]]))
