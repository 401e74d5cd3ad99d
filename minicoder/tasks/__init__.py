"""Programming problems with tests: their file format, and families that make them."""
