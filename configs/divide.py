"""What `rsml divide` (or `python divide_dataset.py`) divides when it is given no SOURCE and DEST.

    rsml divide

As unpacked, UC Merced's class folders lie in data/UCMerced_LandUse/Images; 80 / 20 into train and valid as PNG is the
division of the improved-cross-entropy paper. Then `rsml predict` measures a checkpoint put into checkpoint/.
"""

from rsml.config import Division

division = Division(
    source="data/UCMerced_LandUse/Images",
    dest="data/UCMerced",
    train=80,
    valid=20,
    png=True,
)
