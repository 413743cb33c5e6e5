"""Whether a variant's verdicts are close enough to fp32's, measured on validation images."""
