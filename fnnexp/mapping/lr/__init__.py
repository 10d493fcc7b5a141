"""Learning-rate range tests: each configuration trains once while its rate rises; the loss suggests a rate.

- ``request``: the words of a command, and the trials whose rates rise.
- ``rule``: the suggested rate of a curve of losses.
- ``results``: the curves and the suggestions of all configurations.
- ``picture``: the curves drawn.
- ``command``: run a range test.
"""
