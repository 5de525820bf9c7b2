"""Sub-commands of ``cre``: each parses, calls the library, prints and returns an exit code."""
