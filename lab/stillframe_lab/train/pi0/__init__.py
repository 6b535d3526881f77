"""Behaviour cloning of jaco-tiny-pi0 and jaco-tiny-pi05: a flow over chunks by an action expert."""
