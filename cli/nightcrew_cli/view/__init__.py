"""How things look: plain functions from values to tables, lines and JSON."""
