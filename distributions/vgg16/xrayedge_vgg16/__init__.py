"""The bundle `vgg16`; xrayedge finds it by the entry point ``xrayedge.models``."""
