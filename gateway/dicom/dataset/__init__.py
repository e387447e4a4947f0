"""Data sets on disk: elements, headers, Part 10 files; pixel data is not decoded."""
