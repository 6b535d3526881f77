"""The command stillframe-jaco2. Parses options; other rooms do the work, imported on use."""
