"""The built-in data set: aerial scenes drawn by a program, with UC Merced's scene classes and labels."""

from rsml.scenes.drawing import SCENES, Scene, draw
from rsml.scenes.materials import LABELS
from rsml.scenes.writing import contact_sheet, write

__all__ = ["LABELS", "SCENES", "Scene", "contact_sheet", "draw", "write"]
