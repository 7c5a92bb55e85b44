"""The page in a browser and the service for programs."""
