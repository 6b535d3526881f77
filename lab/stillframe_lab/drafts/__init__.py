"""Draft modes exact and strict, side by side in closed loop: how often their tokens differ, and by how close a call."""
