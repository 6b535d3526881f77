"""stillframe: a robot-policy serving daemon that remembers each robot between frames."""

__version__ = "0.1.0"
