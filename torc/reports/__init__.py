"""What others are shown of a run: pages, archives, logs, bundles for bug reports. Functions over a Torc and files."""
