"""Everything that knows a coordinate system: cutting scenes, land cover under tiles, maps of scenes."""
