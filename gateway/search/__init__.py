"""Find what became of an instance, a series, a study, or a sender's instances, for `mini-pacs why`."""
