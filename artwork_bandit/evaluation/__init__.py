"""What any policy would have earned on the log, and whether the log can tell."""
