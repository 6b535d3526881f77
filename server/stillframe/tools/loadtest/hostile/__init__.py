"""Hostile neighbours: how much a malicious or broken client slows down a robot, one kind at a time."""
