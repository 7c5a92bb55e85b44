"""Predict and measure with a run or any saved classifier."""
