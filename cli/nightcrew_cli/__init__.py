"""The command line, the report and the local host."""
