"""The shipped model bundles and omega parameters, and ``index.json`` with their hashes."""
