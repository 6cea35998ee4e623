"""Members with known tastes, logs with known truth, benchmarks. Not shipped with the package."""
