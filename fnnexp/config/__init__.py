"""Configs: the schema, composing, and what a composed config may say."""
