"""Closed-loop evaluation in the simulator, and what the reports of all experiments share.

Knows the simulator, and policies in this process or behind a URL.
"""
