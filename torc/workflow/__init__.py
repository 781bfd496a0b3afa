"""The rules of a workflow: states, gates, resources, packing. Pure: values in, values out."""
