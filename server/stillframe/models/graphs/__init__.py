"""Passes that are recorded once and replayed: a GPU is told in one call what takes a thousand.

Knows passes, the KV pool's slots and the towers' pictures; no family, no session.
"""
