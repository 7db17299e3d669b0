"""The workstation: data, network, recipe, training, evaluation. Needs the extra `train`."""
