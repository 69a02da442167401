"""Runs the event files through `sam local invoke` and compares the answers with events/expected.json."""
