"""The command `mini-pacs`: parse the command line, run one use case, print its result."""
