"""Methods side by side: a grid of runs, and two runs on the same images."""
