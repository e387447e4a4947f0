"""Data sets and the files that hold them: elements, headers, Part 10 files; pixel data is not decoded."""
