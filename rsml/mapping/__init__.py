"""From labels back to the map: a classifier slides over rasters of any size, and its scores become a map."""
