"""Every picture: charts, panels, curves, maps, and the style they share."""
