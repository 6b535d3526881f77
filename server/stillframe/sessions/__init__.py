"""Sessions: states, epochs and seqs, cached replies, tombstones of ended sessions.

Knows neither the wire nor the device: submits to a policy, which answers through futures.
"""
