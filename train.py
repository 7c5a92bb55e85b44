"""The same as `rsml train`: python train.py --help"""

import sys

from rsml.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["train", *sys.argv[1:]]))
