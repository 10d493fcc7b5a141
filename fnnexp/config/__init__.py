"""Configs: from what a user types to trials.

- ``schema``: the keys, their types and defaults; where the shipped files lie.
- ``compose``: the one way in: a command to a sweep.
- ``safety``: what a config may not do, looked at before Hydra reads a file and after it composed.
- ``jobs``, ``checks``: a composed config, read, and refused where no experiment can mean it.
- ``resolve``, ``trial``: a job and its data to a trial; a trial's identity.
- ``execution``: where and how trials run.
- ``messages``: Hydra's complaints in words that say what to write.
- ``commands``: commands and values as a shell and Hydra take them.
"""
