"""The command `mini-pacs`: read the words that were typed, run one use case, print its result."""
