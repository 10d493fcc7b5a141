"""What Hydra loads: see plugin.py."""
