"""Language models on a server."""
