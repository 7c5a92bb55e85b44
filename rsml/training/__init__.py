"""From an experiment to a run: the loop, what happens at the end of an epoch, what a run leaves behind."""

from rsml.training.loop import train

__all__ = ["train"]
