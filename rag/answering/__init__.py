"""Answerers: each turns a search into a stream of events that ends with a draft."""
