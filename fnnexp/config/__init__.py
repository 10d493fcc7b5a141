"""Configs: turn a user's command into trials.

- ``schema``: the keys, their types and defaults; the folders of the shipped files.
- ``compose``: the only entry point: turn a command into a sweep.
- ``composition``, ``combinations``: compose configs with Hydra.
- ``safety``: refuse configs that are more than data, before Hydra reads a file and after it composed one.
- ``jobs``, ``checks``: read a composed config, and refuse impossible values.
- ``resolve``, ``trial``: turn a job and its data into a trial; a trial's identity.
- ``execution``: where and how trials run.
- ``messages``: turn Hydra's errors into messages that say what to write.
- ``commands``: commands and values in the syntax of the shell and of Hydra.
"""
