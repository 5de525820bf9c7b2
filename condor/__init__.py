"""Batch systems: site files, Dask workers as jobs, plain shards, and what the queue says of them."""
