"""The one thread that owns the device, and the step it repeats. Knows time and queues; no HTTP."""
