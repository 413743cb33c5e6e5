"""INT8 and FP16 variants: calibration stream, ranges, Q/DQ, refit, sensitivity and the gate on the verdict."""
