"""What is told of a run to others: pages, crates for archives, logs, bundles for bug reports. Functions over a Torc and files."""
