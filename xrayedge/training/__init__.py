"""The workstation: network, recipe, training, pruning. Needs the extra `train`."""
