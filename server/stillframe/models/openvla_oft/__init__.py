"""OpenVLA-OFT: an OpenVLA whose decoder says a whole chunk of actions in one bidirectional pass."""
