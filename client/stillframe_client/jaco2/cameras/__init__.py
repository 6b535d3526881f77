"""Cameras behind one protocol (base.py): a background reader, the newest frame, its age. Knows no policy and no arm."""
