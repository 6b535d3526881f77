"""Files read within bounds: JSON, YAML, and what a file really holds."""
