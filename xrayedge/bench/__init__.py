"""`python -m xrayedge.bench`: latency, memory and accuracy of every variant of a model."""
