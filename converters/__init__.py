"""Convert Keras models to the files that devices run. Needs the extra `convert`."""
