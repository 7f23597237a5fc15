"""Tools that are run from the repository and never installed: benchmarks and the demonstration."""
