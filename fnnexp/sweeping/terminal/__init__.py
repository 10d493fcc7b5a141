"""What a sweep shows in the terminal, and how Ctrl-C stops it."""
