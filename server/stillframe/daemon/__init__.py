"""The daemon: its configuration, composition root, sockets, shutdown and logs."""
