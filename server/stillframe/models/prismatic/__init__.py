"""What families built on a Prismatic VLM share: two vision towers, a projector, a prompt and the checkpoint's files."""
