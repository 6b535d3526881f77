"""A running daemon and its sessions on a terminal: `stillframe top`."""
