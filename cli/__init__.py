"""The ops CLI: parse, run one use case, render."""
