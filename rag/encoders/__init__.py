"""Encoders: text to unit vectors, for documents and for queries."""
