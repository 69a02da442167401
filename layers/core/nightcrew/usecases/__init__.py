"""Load, decide, apply; the ports that takes, and the errors it raises."""
