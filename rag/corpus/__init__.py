"""Papers: reading them from files, and writing them as BibTeX."""
