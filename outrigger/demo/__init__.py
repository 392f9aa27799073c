"""`outrigger demo`: runs a complete mesh of real processes on this machine and changes it step by step under
load."""
