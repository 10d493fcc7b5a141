"""A document as data, and its renderings as an HTML page, as Markdown and in the terminal."""
