"""The ways to send frames: each is one robot's connection, session and book of what is under way."""
