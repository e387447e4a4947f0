"""Find what became of an instance, a series, a study, or of what a sender sent, for `mini-pacs why`."""
