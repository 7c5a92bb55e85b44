"""Images and labels on disk, turned into tensors."""
