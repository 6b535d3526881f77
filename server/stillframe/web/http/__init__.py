"""Bytes off the wire become fields, pictures and frames here, each judged before it is decoded. Knows no engine."""
