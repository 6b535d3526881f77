"""Load tests: how many robots a daemon serves in time, and whether one client can slow down the others."""
