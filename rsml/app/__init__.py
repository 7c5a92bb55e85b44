"""A run behind HTTP: the service for programs (`rsml serve`) and the page for people (`rsml app`)."""
