"""The choices a network is made of: one table each."""
