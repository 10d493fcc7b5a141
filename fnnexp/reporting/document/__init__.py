"""A document as data, and its three renderings: a page, Markdown and the terminal."""
