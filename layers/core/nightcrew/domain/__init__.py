"""Decisions: values in, values out. Standard library only."""
