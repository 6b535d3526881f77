"""A checkpoint held to what a reference implementation returned on it: `stillframe parity`."""
