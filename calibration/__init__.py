"""INT8 and FP16 variants: calibration images, ranges, Q/DQ graphs, refit, sensitivity and the acceptance test."""
