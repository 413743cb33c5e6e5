"""The acceptance test: compares a variant with fp32 on validation images."""
