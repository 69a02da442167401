"""One module for each group of commands: read the options, call one use case, show the answer."""
