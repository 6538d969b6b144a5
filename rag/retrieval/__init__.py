"""Retrieval: from a question to ranked papers and their sentences."""
