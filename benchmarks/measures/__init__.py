"""One module a measure. Each has `measure(sizes, folder)`, which gives rows and leaves its files in the folder."""
