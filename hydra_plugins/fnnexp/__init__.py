"""The plugins that Hydra loads; see plugin.py."""
