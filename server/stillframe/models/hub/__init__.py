"""Checkpoints by their id on the Hugging Face hub: which of their files are read, fetched once into its cache."""
