"""What isotrace found, for people and for other tools to read: the terminal, pages, test reports."""
