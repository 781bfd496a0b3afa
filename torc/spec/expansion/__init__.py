"""From a checked spec to a plan: parameters, names, jobs and their dependencies."""
