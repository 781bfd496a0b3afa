"""The tools, by what an assistant does with them."""
