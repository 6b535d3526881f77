"""Behaviour cloning of policies that say a chunk of actions: jaco-tiny-oft and jaco-tiny-cogact."""
