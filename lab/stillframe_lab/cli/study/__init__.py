"""`stillframe study`: one sub-command for each study that plays many cells and writes tables."""
