"""Everything that cuts, normalises or cleans text."""
