"""How each family of clients writes a frame and reads a reply: one file each."""
