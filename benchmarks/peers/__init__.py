"""What the benchmarks compare with: scripts as others write them, free of this project's code."""
