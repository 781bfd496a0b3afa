"""The rules: states, graph, packing, retries, simulation. Values in, values out; nothing here opens or waits."""
