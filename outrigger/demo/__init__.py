"""`outrigger demo`: a whole mesh of real processes on this machine, changed step by step under load."""
