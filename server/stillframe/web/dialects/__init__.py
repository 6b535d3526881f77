"""How each family of clients says a frame and reads an answer: one file for each."""
