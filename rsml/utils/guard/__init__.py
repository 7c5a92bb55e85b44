"""The one way to read bytes that others may have written: nothing in them runs, sizes are checked before use.

`parse_json` and `read_json` for JSON, `ZipReader` for zip files, `read_npz`, `read_npy` and `map_npy` for numpy's
files, `rsml.utils.guard.hdf5_files.open_hdf5` for HDF5. Whatever is wrong with a file is a `Damaged`, one line that
names the file.
"""

from rsml.utils.guard.faults import Damaged
from rsml.utils.guard.json_files import parse_json, read_json
from rsml.utils.guard.numpy_files import map_npy, read_npy, read_npz
from rsml.utils.guard.zip_files import ZipReader

__all__ = ["Damaged", "ZipReader", "map_npy", "parse_json", "read_json", "read_npy", "read_npz"]
