"""The command ``cre``: one module per sub-command, the run card and provenance."""
